import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { type AddressInfo, connect as netConnect, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import type { TokenClaims } from "../../control/token/token.ts";
import { openTokenService, type RotatingTokenService } from "../../control/token/token-service.ts";
import { systemClock } from "../../lib/clock.ts";
import { createLog } from "../../lib/log.ts";
import { type EndpointCertificates, openAuthority } from "../authority.ts";
import type { Front } from "../front.ts";
import type { EndpointLimits } from "../limits.ts";
import { createEndpointServer, type EndpointServer } from "../server.ts";
import { StubGate, type StubMicrovm } from "./stub-gate.ts";

export const DOMAIN = "lambda-microvm.us-east-1.localhost";

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly rawTrailers: readonly string[];
  readonly body: string;
}

/** An endpoint with its certificates and tokens, in front of stub microvms whose apps are real servers. */
export interface Bench extends AsyncDisposable {
  readonly gate: StubGate;
  readonly server: EndpointServer;
  readonly tokens: RotatingTokenService;
  readonly certificates: EndpointCertificates;
  /** What clients trust. */
  readonly ca: string;
}

export async function startBench(limits: Partial<EndpointLimits> = {}, front: Partial<Front> = {}): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "torpor-endpoint-"));
  stack.defer(() => rm(dir, { recursive: true }));
  const log = createLog(process.env.TORPOR_TEST_LOG ?? "silent");
  const clock = systemClock;
  const tokens = await openTokenService(join(dir, "tokens.json"), clock, log);
  const certificates = stack.use(await openAuthority({ dataDir: dir, domain: DOMAIN, clock, log }));
  const ca = await readFile(certificates.caFile ?? "", "utf8");
  const gate = new StubGate();
  const options = { host: "127.0.0.1", port: 0, domain: DOMAIN, tls: certificates, gate, tokens, log, clock, limits };
  const server = stack.use(createEndpointServer({ ...options, front }));
  await server.listen();
  return { gate, server, tokens, certificates, ca, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** A token for every port of the microvm, unless told otherwise. */
export function tokenFor(bench: Bench, microvm: StubMicrovm, more: Partial<TokenClaims> = {}): Promise<string> {
  return bench.tokens.mint({
    microvmId: microvm.id,
    kind: "http",
    ports: [{ from: 1, to: 65535 }],
    expiresAt: new Date(Date.now() + 60_000),
    ...more,
  });
}

/** Opens an app server and puts it on port 8080 of the microvm; the result ends it. */
export async function serveApp(microvm: StubMicrovm, app: Server): Promise<AsyncDisposable> {
  await once(app.listen(0, "127.0.0.1"), "listening");
  microvm.ports.set(8080, portOf(app));
  return {
    [Symbol.asyncDispose]: async () => {
      app.close();
      for (const stream of microvm.streams) stream.destroy();
      if (app.listening) await once(app, "close");
    },
  };
}

export const portOf = (server: Server): number => (server.address() as AddressInfo).port;
export const hostOf = (microvm: Pick<StubMicrovm, "label">): string => `${microvm.label}.${DOMAIN}`;

/** A request under way, with the TLS and name resolution of a client that has trusted our CA. */
export function open(bench: Bench, microvm: Pick<StubMicrovm, "label">, options: RequestOptions = {}): ClientRequest {
  return httpsRequest({
    host: hostOf(microvm),
    port: bench.server.address.port,
    ca: bench.ca,
    agent: false,
    lookup: (_name, lookup, callback) =>
      lookup.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
    ...options,
  });
}

/** A request with its whole answer. */
export async function ask(
  bench: Bench,
  microvm: Pick<StubMicrovm, "label">,
  options: RequestOptions = {},
  body?: string | Buffer,
): Promise<Answer> {
  const request = open(bench, microvm, options);
  request.end(body);
  const [message] = (await once(request, "response")) as [IncomingMessage];
  return whole(message);
}

export async function whole(message: IncomingMessage): Promise<Answer> {
  let body = "";
  for await (const chunk of message.setEncoding("latin1")) body += chunk;
  const { statusCode: status = 0, headers, rawHeaders, rawTrailers } = message;
  return { status, headers, rawHeaders, rawTrailers, body };
}

/** A TLS connection for bytes of the test's own. */
export async function connectRaw(bench: Bench, servername: string): Promise<TLSSocket> {
  const socket = tlsConnect({
    socket: netConnect({ port: bench.server.address.port, host: "127.0.0.1" }),
    servername,
    ca: bench.ca,
  });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

/** Everything that comes back until the connection ends. */
export async function readAll(socket: TLSSocket): Promise<string> {
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => {
    text += chunk;
  });
  // Not events.once: a reset is an end like any other here.
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
  return text;
}

/** Resolves when the condition holds; looked at after each of the events. */
export async function until(emitter: StubMicrovm, event: string, holds: () => boolean): Promise<void> {
  while (!holds()) await once(emitter, event);
}
