import { once } from "node:events";
import { createServer, type IncomingMessage, request } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { expect, test } from "vitest";
import { loadConfig } from "../config.ts";
import { AddressList } from "../lib/address-list.ts";
import { type Front, frontOf } from "./front.ts";
import { ask, type Bench, DOMAIN, hostOf, serveApp, startBench, tokenFor, whole } from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

const LOOPBACK = new AddressList("127.0.0.0/8");
const ELSEWHERE = new AddressList("192.0.2.0/24");
/** Says what it sees. */
const mirror = () => createServer((req, res) => res.end(JSON.stringify(req.rawHeaders)));

async function start(front: Partial<Front>, limits = {}) {
  const stack = new AsyncDisposableStack();
  const bench = stack.use(await startBench(limits, front));
  const vm = bench.gate.add();
  stack.use(await serveApp(vm, mirror()));
  const token = await tokenFor(bench, vm);
  return { bench, vm, token, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const linesOf = (body: string): [string, string][] => {
  const lines = JSON.parse(body) as string[];
  return lines.flatMap((name, i) => (i % 2 === 0 ? [[name, lines[i + 1] ?? ""] as [string, string]] : []));
};

/** TLS behind whatever a proxy says first. */
async function behind(bench: Bench, vm: StubMicrovm, header: string | Buffer, alpn = "http/1.1") {
  const raw = connect(bench.server.address.port, "127.0.0.1");
  raw.on("error", () => {});
  raw.write(header);
  const socket = tlsConnect({ socket: raw, servername: hostOf(vm), ca: bench.ca, ALPNProtocols: [alpn] });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

async function statusOn(socket: Socket, vm: StubMicrovm, token: string): Promise<string> {
  socket.write(`GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\n\r\n`);
  let text = "";
  while (!/\r\n\r\n[\s\S]*\]|Content-Length: 0\r\n[\s\S]*\r\n\r\n/.test(text))
    text += String((await once(socket, "data"))[0]);
  return text;
}

const PROXY = "PROXY TCP4 198.51.100.7 127.0.0.1 4711 443\r\n";
const proxied: Partial<Front> = { trusted: LOOPBACK, proxyProtocol: true, forwarded: "set" };

test("behind a PROXY header the client is who it says, in HTTP/1.1 and HTTP/2", async () => {
  await using t = await start(proxied);
  const v2 = Buffer.from("0d0a0d0a000d0a515549540a2111000cc63364077f000001126701bb", "hex");
  for (const header of [PROXY, v2]) {
    const socket = await behind(t.bench, t.vm, header);
    expect(await statusOn(socket, t.vm, t.token)).toContain('"X-Forwarded-For","198.51.100.7"');
    socket.destroy();
  }
  const socket = await behind(t.bench, t.vm, PROXY, "h2");
  const session = connectHttp2(`https://${hostOf(t.vm)}`, { createConnection: () => socket });
  const stream = session.request({ ":path": "/", "x-aws-proxy-auth": t.token });
  let body = "";
  for await (const chunk of stream.setEncoding("utf8")) body += chunk;
  expect(linesOf(body)).toContainEqual(["X-Forwarded-For", "198.51.100.7"]);
  session.destroy();
});

test.each([
  ["TLS without one", ""],
  ["a malformed one", "PROXY TCP4 1.2.3.4\r\n"],
  ["one of another version", Buffer.from("0d0a0d0a000d0a515549540a3111000c7f0000017f000001126701bb", "hex")],
])("a trusted connection with %s is closed", async (_name, header) => {
  await using t = await start(proxied);
  await expect(behind(t.bench, t.vm, header)).rejects.toThrow();
});

test("a header that does not come is not waited for long, and one that comes in pieces is read", async () => {
  await using t = await start(proxied, { headerTimeoutMs: 300 });
  const silent = connect(t.bench.server.address.port, "127.0.0.1");
  silent.write("PROXY TCP4 1.2");
  await once(silent, "close");
  const raw = connect({ port: t.bench.server.address.port, host: "127.0.0.1", noDelay: true });
  for (const c of PROXY) {
    raw.write(c);
    await new Promise(setImmediate);
  }
  const socket = tlsConnect({ socket: raw, servername: hostOf(t.vm), ca: t.bench.ca });
  await once(socket, "secureConnect");
  socket.destroy();
});

test("nobody else's PROXY header is read: such a connection is no TLS", async () => {
  await using t = await start({ ...proxied, trusted: ELSEWHERE });
  await expect(behind(t.bench, t.vm, PROXY)).rejects.toThrow();
  expect((await ask(t.bench, t.vm, { headers: { "X-aws-proxy-auth": t.token } })).status).toBe(200);
});

test("connections are counted by the client that the PROXY header names, not by the proxy", async () => {
  await using t = await start(proxied, { maxConnectionsPerAddress: 2 });
  const from = (address: string) => behind(t.bench, t.vm, `PROXY TCP4 ${address} 127.0.0.1 1 443\r\n`);
  const open = [await from("198.51.100.7"), await from("198.51.100.7"), await from("198.51.100.8")];
  await expect(from("198.51.100.7")).rejects.toThrow();
  open[0]!.destroy();
  const again = async (): Promise<unknown> => from("198.51.100.7").catch(again);
  open.push((await again()) as (typeof open)[number]); // when the place is free again
  for (const socket of open) socket.destroy();
});

test("as on AWS, workloads see what was sent, and nothing is added", async () => {
  await using t = await start({ trusted: LOOPBACK });
  const headers = { "X-aws-proxy-auth": t.token, "X-Forwarded-For": "1.1.1.1", Forwarded: "for=2.2.2.2" };
  const lines = linesOf((await ask(t.bench, t.vm, { headers })).body);
  expect(lines.filter(([name]) => /forwarded|via/i.test(name))).toEqual([
    ["X-Forwarded-For", "1.1.1.1"],
    ["Forwarded", "for=2.2.2.2"],
  ]);
});

test("set: workloads see the client and nothing that a client has made up", async () => {
  await using t = await start({ forwarded: "set" });
  const made = { "X-Forwarded-For": "1.1.1.1", "x-forwarded-proto": "gopher", Forwarded: "for=2.2.2.2" };
  const headers = { "X-aws-proxy-auth": t.token, ...made, "X-Forwarded-Port": "1" };
  const lines = linesOf((await ask(t.bench, t.vm, { headers })).body);
  expect(lines.filter(([name]) => /forwarded/i.test(name))).toEqual([
    ["X-Forwarded-For", "127.0.0.1"],
    ["X-Forwarded-Host", hostOf(t.vm)],
    ["X-Forwarded-Proto", "https"],
  ]);
});

test("behind a proxy of HTTP each client's requests are counted, not the proxy's connections", async () => {
  const stack = new AsyncDisposableStack();
  await using _ = stack;
  const bench = stack.use(await startBench({ maxConnectionsPerAddress: 1 }, { trusted: LOOPBACK }));
  const vm = bench.gate.add();
  const waiting: (() => void)[] = [];
  const app = createServer((req, res) => {
    if (req.url === "/wait") waiting.push(() => res.end());
    else res.end();
    app.emit("asked");
  });
  stack.use(await serveApp(vm, app));
  const token = await tokenFor(bench, vm);
  const status = async (client: string, path = "/"): Promise<number> =>
    (await ask(bench, vm, { path, headers: { "X-aws-proxy-auth": token, "X-Forwarded-For": `9.9.9.9, ${client}` } }))
      .status;
  const asked = once(app, "asked");
  const first = status("198.51.100.7", "/wait");
  await asked;
  expect(await status("198.51.100.7")).toBe(429);
  expect(await status("198.51.100.8")).toBe(200);
  for (const answer of waiting) answer();
  expect(await first).toBe(200);
  expect(await status("198.51.100.7")).toBe(200);
});

const plain: Partial<Front> = { trusted: LOOPBACK, plainHttp: true, forwarded: "set" };

function plainAsk(t: { bench: Bench; vm: StubMicrovm; token: string }, headers = {}): Promise<IncomingMessage> {
  const { port } = t.bench.server.address;
  const host = hostOf(t.vm);
  const req = request({
    host: "127.0.0.1",
    port,
    agent: false,
    headers: { Host: host, "X-aws-proxy-auth": t.token, ...headers },
  });
  req.end();
  return once(req, "response").then(([message]) => message as IncomingMessage);
}

test("where a proxy ends TLS its plain HTTP is served, and tokens and names are checked as ever", async () => {
  await using t = await start(plain);
  const answer = await whole(await plainAsk(t, { "X-Forwarded-For": "198.51.100.7" }));
  expect(answer.status).toBe(200);
  expect(linesOf(answer.body)).toContainEqual(["X-Forwarded-For", "198.51.100.7"]);
  expect((await plainAsk(t, { "X-aws-proxy-auth": "x" })).statusCode).toBe(403);
  expect((await plainAsk(t, { Host: `other.${DOMAIN}` })).statusCode).toBe(403);
});

test("plain HTTP behind a PROXY header", async () => {
  await using t = await start({ ...plain, proxyProtocol: true });
  const socket = connect(t.bench.server.address.port, "127.0.0.1");
  socket.write(PROXY);
  expect(await statusOn(socket, t.vm, t.token)).toContain('"X-Forwarded-For","198.51.100.7"');
  socket.destroy();
  const together = connect(t.bench.server.address.port, "127.0.0.1");
  together.write(`${PROXY}GET / HTTP/1.1\r\nHost: ${hostOf(t.vm)}\r\n\r\n`); // in one piece
  expect(String((await once(together, "data"))[0])).toMatch(/^HTTP\/1\.1 403 /);
  together.destroy();
});

test("plain HTTP from anybody else is not served", async () => {
  await using t = await start({ ...plain, trusted: ELSEWHERE });
  await expect(plainAsk(t)).rejects.toThrow();
});

test("settings that trust nobody, and need somebody, are refused", () => {
  const front = (flags: Record<string, unknown>): Front => frontOf(loadConfig({ env: {}, flags }).config);
  expect(() => front({ proxyProtocol: "on" })).toThrow(/proxy-protocol is on, and trusted-proxies names nobody/);
  expect(() => front({ endpointTls: "off" })).toThrow(/endpoint-tls is off, and trusted-proxies names nobody/);
  expect(() => front({ trustedProxies: "proxy.example" })).toThrow(
    /trusted-proxies \(flag --trusted-proxies\): .*networks/,
  );
  expect(front({ endpointTls: "off", trustedProxies: "::1" })).toMatchObject({ plainHttp: true, proxyProtocol: false });
});
