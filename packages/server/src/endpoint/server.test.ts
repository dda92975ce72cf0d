import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { connect as netConnect, type Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import type { KeyAndCertificate } from "./certificate/issue.ts";
import { createEndpointServer } from "./server.ts";
import {
  ask,
  type Bench,
  connectRaw,
  DOMAIN,
  hostOf,
  open,
  readAll,
  serveApp,
  startBench,
  tokenFor,
  until,
} from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
beforeEach(async () => {
  bench = await startBench({ maxConnectionsPerMicrovm: 3 });
  vm = bench.gate.add();
  return () => bench[Symbol.asyncDispose]();
});
let app: AsyncDisposable | undefined;
afterEach(() => app?.[Symbol.asyncDispose]());

const headers = async () => ({ "X-aws-proxy-auth": await tokenFor(bench, vm) });
/** An app that begins its answers and never ends them. */
const endlessApp = async () => {
  app = await serveApp(
    vm,
    createServer((_req, res) => res.write("begun")),
  );
};
async function begin(): Promise<IncomingMessage> {
  const request = open(bench, vm, { headers: await headers() });
  request.on("error", () => {}).end();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  message.on("error", () => {}).resume();
  return message;
}
const another = (tls: { current: KeyAndCertificate }, port: number) =>
  createEndpointServer({
    host: "127.0.0.1",
    port,
    domain: DOMAIN,
    tls: { current: tls.current, onRenewal: () => {} },
    gate: bench.gate,
    tokens: bench.tokens,
    log: createLog("silent"),
    clock: systemClock,
  });

test("a microvm has only so many connections; a place that is given back can be taken again", async () => {
  await endlessApp();
  const open = [await begin(), await begin(), await begin()];
  const answer = await ask(bench, vm, { headers: await headers() });
  expect(answer).toMatchObject({ status: 429, body: "", headers: { "retry-after": "1" } });
  expect(vm.entered).toBe(3);
  const other = bench.gate.add();
  expect(await ask(bench, other, { headers: { "X-aws-proxy-auth": await tokenFor(bench, other) } })).toMatchObject({
    status: 502, // has places, only no app
  });
  open[0]?.destroy();
  await until(vm, "left", () => vm.left === 1);
  await begin();
  for (const message of open) message.destroy();
});

test("those who wait for a microvm count, too", async () => {
  vm.state = "waking";
  app = await serveApp(
    vm,
    createServer((_req, res) => res.end("awake")),
  );
  const sent = { headers: await headers() };
  const waiting = [ask(bench, vm, sent), ask(bench, vm, sent), ask(bench, vm, sent)];
  await until(vm, "entered", () => vm.entered === 3);
  expect((await ask(bench, vm, sent)).status).toBe(429);
  vm.wake();
  expect((await Promise.all(waiting)).map(({ body }) => body)).toEqual(["awake", "awake", "awake"]);
});

test("close ends answers, waits and tunnels, and every visit is left", async () => {
  const server = createServer((_req, res) => res.write("begun"));
  server.on("upgrade", (_req, socket) => {
    socket.on("error", () => {}).write("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n");
  });
  app = await serveApp(vm, server);
  const sent = { headers: await headers() };
  const message = await begin();
  const cut = new Promise((resolve) => message.once("close", resolve));
  const tunnel = open(bench, vm, { headers: { ...sent.headers, Connection: "Upgrade", Upgrade: "bytes" } });
  tunnel.end();
  const [, tunnelled] = (await once(tunnel, "upgrade")) as [unknown, Socket];
  tunnelled.on("error", () => {}).resume();
  const tunnelCut = new Promise((resolve) => tunnelled.once("close", resolve));
  vm.state = "waking";
  const waiting = ask(bench, vm, sent).catch((err: unknown) => err);
  await until(vm, "entered", () => vm.entered === 3);
  const idle = readAll(await connectRaw(bench, hostOf(vm)));

  await bench.server.close();
  expect(vm.left).toBe(3);
  await Promise.all([cut, tunnelCut]);
  expect(await waiting).toBeInstanceOf(Error);
  expect(await idle).toBe("");
  await bench.server.close(); // once more does no harm
});

test("connections that never finish their handshake do not keep it from closing", async () => {
  const socket = netConnect(bench.server.address.port, "127.0.0.1");
  await once(socket, "connect");
  const closed = once(socket, "close");
  await bench.server.close();
  await closed;
});

test("a port in use is named, with the setting to change", async () => {
  const { port } = bench.server.address;
  const failure = await another(bench.certificates, port)
    .listen()
    .catch((err: unknown) => err);
  expect(failure).toMatchObject({ name: "TorporError", kind: "unavailable" });
  expect(String(failure)).toContain(`127.0.0.1:${port}`);
  expect(String(failure)).toContain("endpoint-port");
});

test("a server that does not listen has no address and closes at once", async () => {
  const server = another(bench.certificates, 0);
  expect(() => server.address).toThrow(/does not listen/);
  await server.close();
});

test("HTTP/2 is preferred, HTTP/1.1 negotiated, and old TLS is not", async () => {
  const dial = (options: object) =>
    tlsConnect({
      host: "127.0.0.1",
      port: bench.server.address.port,
      servername: hostOf(vm),
      ca: bench.ca,
      ...options,
    });
  for (const [offered, chosen] of [
    [["http/1.1", "h2"], "h2"],
    [["http/1.1"], "http/1.1"],
    [undefined, false],
  ] as const) {
    const socket = dial({ ALPNProtocols: offered });
    await once(socket, "secureConnect");
    expect(socket.alpnProtocol).toBe(chosen);
    socket.destroy();
  }
  await expect(once(dial({ ALPNProtocols: ["h3"] }), "secureConnect")).rejects.toThrow(/no application protocol/);
  await expect(once(dial({ maxVersion: "TLSv1.1", minVersion: "TLSv1" }), "secureConnect")).rejects.toThrow();
});

test("a renewed certificate is shown to new connections, old ones go on", async () => {
  let renew = (_renewed: KeyAndCertificate): void => {};
  const server = createEndpointServer({
    host: "127.0.0.1",
    port: 0,
    domain: DOMAIN,
    tls: {
      current: bench.certificates.current,
      onRenewal: (listener) => {
        renew = listener;
      },
    },
    gate: bench.gate,
    tokens: bench.tokens,
    log: createLog("silent"),
    clock: systemClock,
  });
  await server.listen();
  const fingerprint = async (): Promise<[string, () => Promise<string>]> => {
    const socket = tlsConnect({ port: server.address.port, host: "127.0.0.1", rejectUnauthorized: false });
    await once(socket, "secureConnect");
    const ask = (): Promise<string> => {
      socket.write(`GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nConnection: close\r\n\r\n`);
      return readAll(socket);
    };
    return [socket.getPeerCertificate().fingerprint256, ask];
  };
  const [before, askOld] = await fingerprint();
  await using other = await startBench();
  renew(other.certificates.current);
  const [after, askNew] = await fingerprint();
  expect(after).not.toBe(before);
  expect(await askOld()).toMatch(/^HTTP\/1.1 403/);
  expect(await askNew()).toMatch(/^HTTP\/1.1 403/);
  await server.close();
});
