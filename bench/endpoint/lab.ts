import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BenchProcess } from "../harness/process.ts";
import type { Target } from "./clients.ts";
import type { EndpointFacts } from "./endpoint-process.ts";
import { nginxMissing, startNginx } from "./nginx.ts";

const DOMAIN = "lambda-microvm.us-east-1.localhost";
/** The guests' agents are here, on the port that agents have; nobody else is. */
const AGENTS = "127.46.99.1";
const AGENT_PORT = 4699;
/** Each may have 128 connections at once. */
const MICROVMS = 50;

/** What is measured, in a process of its own. */
export interface Side {
  readonly name: string;
  readonly process: BenchProcess;
  /** One for each of its names. */
  readonly targets: readonly Target[];
  /** A request for the path to the target of that number. */
  request(path: string, n: number, more?: string): Buffer;
}

/** The endpoint, nginx and the app behind both, all on the loopback. */
export interface EndpointLab extends AsyncDisposable {
  readonly folder: string;
  /** The app without anything before it. */
  readonly appPort: number;
  readonly endpoint: Side;
  /** A text says why it is not there. */
  readonly nginx: Side | string;
}

export async function startLab(nodeArgs: readonly string[]): Promise<EndpointLab> {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "torpor-bench-endpoint-"));
  stack.defer(() => rm(folder, { recursive: true }));
  const node = (file: string, args: readonly string[], where: "server" | "load", more: readonly string[] = []) => {
    const script = fileURLToPath(new URL(file, import.meta.url));
    return stack.use(new BenchProcess([process.execPath, ...more, script, ...args], where));
  };
  const guest = node("guest-process.ts", [AGENTS, String(AGENT_PORT)], "load");
  const appPort = Number(await guest.line());
  const server = node("endpoint-process.ts", [folder, DOMAIN, AGENTS, String(MICROVMS)], "server", nodeArgs);
  const facts = JSON.parse(await server.line()) as EndpointFacts;
  const ca = await readFile(facts.caFile, "utf8");
  const hosts = facts.microvms.map(({ host }) => host);
  const targets = (port: number): Target[] => hosts.map((servername) => ({ port, servername, ca }));
  // The same request to both, so that both have the same lines to look at.
  const request = (path: string, n: number, more = ""): Buffer => {
    const { host, token } = facts.microvms[n % facts.microvms.length]!;
    const lines = `Host: ${host}\r\nX-aws-proxy-auth: ${token}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n${more}`;
    return Buffer.from(`GET ${path} HTTP/1.1\r\n${lines}\r\n`);
  };
  const endpoint: Side = { name: "endpoint", process: server, targets: targets(facts.port), request };
  let nginx: EndpointLab["nginx"] = nginxMissing() ?? "";
  if (nginx === "") {
    const started = stack.use(await startNginx(folder, join(folder, "ca", "endpoint.pem"), appPort));
    nginx = { name: "nginx", process: started.process, targets: targets(started.port), request };
  }
  const owned = stack.move();
  return { folder, appPort, endpoint, nginx, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
