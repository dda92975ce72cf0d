import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { request } from "node:https";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test, vi } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { AddressList } from "../lib/address-list.ts";
import { issueAuthority, issueServer } from "./certificate/issue.ts";
import type { Front } from "./front.ts";
import { type Bench, DOMAIN, hostOf, serveApp, startBench, tokenFor, whole } from "./testing/bench.ts";

const OPERATING = fileURLToPath(new URL("../../../../docs/operating.md", import.meta.url));
const there = (program: string, ...args: string[]): boolean => spawnSync(program, args).status === 0;
const trusted = new AddressList("127.0.0.1");
const passed: Partial<Front> = { trusted, proxyProtocol: true, forwarded: "set" };
const ended: Partial<Front> = { trusted, plainHttp: true, forwarded: "set" };

/** Each proxy with its example of docs/operating.md, and what has to stand around it to run it as anybody, anywhere. */
const PROXIES = [
  {
    name: "haproxy",
    front: passed,
    there: there("haproxy", "-v"),
    command: (file: string) => ["haproxy", "-db", "-f", file],
    around: (example: string) => `global\n    maxconn 100\n${example}`,
  },
  {
    name: "nginx",
    front: ended,
    there: there("nginx", "-v"),
    command: (file: string, dir: string) => ["nginx", "-e", "stderr", "-p", dir, "-c", file],
    around: (example: string, dir: string) =>
      `daemon off; master_process off; pid ${dir}/pid; events {} http { access_log off; ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((temp) => `${temp}_temp_path ${dir}/${temp};`).join(" ")}\n${example} }`,
  },
  {
    name: "caddy",
    front: ended,
    there: there("caddy", "version"),
    command: (file: string) => ["caddy", "run", "--config", file, "--adapter", "caddyfile"],
    around: (example: string) => `{\n admin off\n auto_https disable_redirects\n skip_install_trust\n}\n${example}`,
  },
];

for (const proxy of PROXIES)
  test.skipIf(!proxy.there)(
    `${proxy.name}, as docs/operating.md has it, in front of the endpoint`,
    { timeout: 60_000 },
    async () => {
      await using stack = new AsyncDisposableStack();
      const dir = await mkdtemp(join(tmpdir(), "torpor-proxy-"));
      stack.defer(() => rm(dir, { recursive: true }));
      const bench = stack.use(await startBench({}, proxy.front));
      const vm = bench.gate.add();
      const app = createServer(mirror);
      const sockets = new WebSocketServer({ server: app });
      sockets.on("connection", (socket) => socket.on("message", (text) => socket.send(`${text}!`)));
      stack.use(await serveApp(vm, app));
      const token = await tokenFor(bench, vm);
      const { port, ca } = await startProxy(proxy, bench, dir, stack);

      const name = hostOf(vm);
      const headers = { "X-aws-proxy-auth": token, "X-Forwarded-For": "1.1.1.1" };
      const lookup = (_: string, options: { all?: boolean }, done: (...args: unknown[]) => void) =>
        options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
      const ask = async (method: string, body: string | undefined, more = {}) => {
        const asked = request({
          host: name,
          port,
          ca,
          agent: false,
          localAddress: "127.0.0.2",
          method,
          lookup: lookup as never,
          headers: { ...headers, ...more },
        });
        asked.end(body);
        const [answer] = await once(asked, "response");
        return whole(answer);
      };
      const got = await ask("GET", undefined);
      expect(got.status).toBe(200);
      const seen = JSON.parse(got.body) as { host: string; "x-forwarded-for": string; body: number };
      // Who asks is 127.0.0.2, which is no proxy's, and its own word for being 1.1.1.1 counts nowhere.
      expect(seen["x-forwarded-for"]).toBe("127.0.0.2");
      expect(seen.host.replace(/:\d+$/, "")).toBe(name);
      const put = await ask("PUT", "x".repeat(3_000_000));
      expect(JSON.parse(put.body)).toMatchObject({ body: 3_000_000 });
      expect((await ask("GET", undefined, { "X-aws-proxy-auth": "x" })).status).toBe(403);

      const socket = new WebSocket(`wss://${name}:${port}/`, { ca, headers, lookup: lookup as never });
      await once(socket, "open");
      socket.send("hello");
      expect(String((await once(socket, "message"))[0])).toBe("hello!");
      socket.terminate();
    },
  );

const mirror: RequestListener = async (req, res) => {
  let body = 0;
  for await (const chunk of req) body += (chunk as Buffer).length;
  res.end(JSON.stringify({ ...req.headers, body }));
};

/** @returns its port, and what its clients are to trust */
async function startProxy(proxy: (typeof PROXIES)[number], bench: Bench, dir: string, stack: AsyncDisposableStack) {
  const validity = { from: new Date(Date.now() - 1000), to: new Date(Date.now() + 86_400_000) };
  const authority = issueAuthority("the proxy's", DOMAIN, validity);
  const issuer = { name: "the proxy's", key: createPrivateKey(authority.key) };
  const { key, certificate } = issueServer(issuer, [`*.${DOMAIN}`], validity);
  await writeFile(join(dir, "vm.pem"), certificate);
  await writeFile(join(dir, "vm.key"), key);
  const port = await freePort();
  const example = new RegExp(`^\`\`\`${proxy.name === "caddy" ? "caddy" : proxy.name}\n(.*?)^\`\`\`$`, "ms")
    .exec(await readFile(OPERATING, "utf8"))?.[1]
    ?.replaceAll("127.0.0.1:4743", `127.0.0.1:${bench.server.address.port}`)
    .replaceAll("vm.example.org", DOMAIN)
    .replaceAll("/etc/ssl", dir)
    .replace(/(bind :|listen |localhost:)443/, (_, before) => `${before}${port}`);
  const file = join(dir, "config");
  await writeFile(file, proxy.around(example ?? "", dir));
  const [program = "", ...args] = proxy.command(file, dir);
  const child = spawn(program, args, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env.PATH, HOME: dir },
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  stack.defer(() => end(child));
  await vi.waitFor(() => reach(port, () => (child.exitCode === null ? said : `it ended: ${said}`)), 20_000);
  return { port, ca: proxy.front.plainHttp ? authority.certificate : bench.ca };
}

async function reach(port: number, said: () => string): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
  } catch (err) {
    throw new Error(`the proxy does not listen: ${said()}`, { cause: err });
  } finally {
    socket.destroy();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
