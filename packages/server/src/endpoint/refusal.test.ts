import { createServer } from "node:http";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  type Answer,
  ask,
  type Bench,
  connectRaw,
  hostOf,
  readAll,
  serveApp,
  startBench,
  tokenFor,
} from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let app: AsyncDisposable;
beforeAll(async () => {
  bench = await startBench({ enterTimeoutMs: 100 });
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  app = await serveApp(
    vm,
    createServer((_req, res) => res.end("app")),
  );
  return () => app[Symbol.asyncDispose]();
});

const auth = (token: string, more: Record<string, string> = {}) => ({
  headers: { "X-aws-proxy-auth": token, ...more },
});
const shown = ({ status, body, headers }: Answer) => ({
  status,
  body,
  error: headers["x-aws-proxy-error"],
  type: headers["content-type"],
  length: headers["content-length"],
});
const forbidden = (body: string) => ({
  status: 403,
  body,
  error: "UNAUTHORIZED",
  type: "text/plain",
  length: String(body.length),
});
const badGateway = (error: string) => ({ status: 502, body: "", error, type: undefined, length: "0" });

test("a valid token leads to the app on port 8080", async () => {
  const answer = await ask(bench, vm, auth(await tokenFor(bench, vm)));
  expect(answer).toMatchObject({ status: 200, body: "app" });
  expect(answer.headers).not.toHaveProperty("x-aws-proxy-error");
});

test("no token, and what is none, is missing authentication", async () => {
  const token = await tokenFor(bench, vm);
  for (const headers of [
    {},
    { "X-aws-proxy-auth": "" },
    { "X-aws-proxy-auth": "hello" },
    { "X-aws-proxy-auth": "a.b.c.d.e" },
    { "X-aws-proxy-auth": [token, token] },
    { Authorization: `Bearer ${token}` },
    { Cookie: `X-aws-proxy-auth=${token}` },
    { "Sec-WebSocket-Protocol": `lambda-microvms, lambda-microvms.authentication.${token}` }, // no upgrade
  ])
    expect(shown(await ask(bench, vm, { headers }))).toEqual(forbidden("Request missing authentication"));
  const inQuery = await ask(bench, vm, { path: `/?X-aws-proxy-auth=${token}` });
  expect(shown(inQuery)).toEqual(forbidden("Request missing authentication"));
});

test("another microvm's token, an expired one and a foreign server's fail alike", async () => {
  const other = bench.gate.add();
  const tokens = [
    await tokenFor(bench, other),
    await tokenFor(bench, vm, { expiresAt: new Date(Date.now() - 1) }),
    `${(await tokenFor(bench, vm)).slice(0, -4)}AAAA`,
  ];
  for (const token of tokens)
    expect(shown(await ask(bench, vm, auth(token)))).toEqual(forbidden("Token authentication failed"));
});

test("a host that does not exist answers like a wrong token", async () => {
  const token = await tokenFor(bench, vm);
  const unknown = { label: "9a41c6d2-77b0-4e19-a2c8-5d0e6f718293" };
  expect(shown(await ask(bench, unknown, auth(token)))).toEqual(forbidden("Token authentication failed"));
  expect(shown(await ask(bench, unknown))).toEqual(forbidden("Request missing authentication"));
  for (const host of ["example.com", "localhost", "127.0.0.1", "[::1]", `a.${hostOf(vm)}`]) {
    const answer = await ask(bench, vm, { ...auth(token, { Host: host }), servername: "", rejectUnauthorized: false });
    expect(shown(answer), host).toEqual(forbidden("Token authentication failed"));
  }
});

test("the Host may differ in case, port and a final dot", async () => {
  const token = await tokenFor(bench, vm);
  for (const host of [hostOf(vm).toUpperCase(), `${hostOf(vm)}:4743`, `${hostOf(vm)}.`])
    expect(await ask(bench, vm, auth(token, { Host: host })), host).toMatchObject({ status: 200 });
});

test("a Host that is not the name of the handshake is misdirected", async () => {
  const other = bench.gate.add();
  const asOther = auth(await tokenFor(bench, other), { Host: hostOf(other) });
  const answer = await ask(bench, vm, { ...asOther, servername: hostOf(vm) });
  expect(answer.status).toBe(421);
  expect(other.entered).toBe(0);
});

test("a port outside the token's set is denied, the default port included", async () => {
  const token = await tokenFor(bench, vm, {
    ports: [
      { from: 9000, to: 9000 },
      { from: 9010, to: 9020 },
    ],
  });
  for (const port of [undefined, "8080", "9001", "9009", "9021", "1", "65535"]) {
    const answer = await ask(bench, vm, auth(token, port === undefined ? {} : { "X-aws-proxy-port": port }));
    expect(shown(answer), port).toEqual(forbidden("Access to port denied"));
  }
  expect(vm.entered).toBe(0);
  for (const port of [9000, 9010, 9020]) {
    vm.ports.set(port, vm.ports.get(8080) ?? 0);
    expect((await ask(bench, vm, auth(token, { "X-aws-proxy-port": String(port) }))).status).toBe(200);
  }
});

test("a port that is no number from 1 to 65535 is a bad request", async () => {
  const token = await tokenFor(bench, vm);
  for (const port of ["0", "65536", "99999", "-1", "+80", "80a", "", "8080,8080", "0x50", "8e1", "٨٠"]) {
    const sent = Buffer.from(port).toString("latin1");
    const answer = await ask(bench, vm, auth(token, { "X-aws-proxy-port": sent }));
    expect(answer, port).toMatchObject({ status: 400, headers: { "content-type": "text/plain" } });
    expect(answer.headers).not.toHaveProperty("x-aws-proxy-error");
  }
  const headers = { "X-aws-proxy-auth": token, "X-aws-proxy-port": ["8080", "8080"] };
  expect((await ask(bench, vm, { headers })).status).toBe(400);
  expect(vm.entered).toBe(0);
});

test("a shell token opens no port and wakes nothing", async () => {
  const token = await tokenFor(bench, vm, { kind: "shell", ports: [] });
  expect(shown(await ask(bench, vm, auth(token)))).toEqual(badGateway("APP_CONNECT_FAILED"));
  expect(vm.entered).toBe(0);
});

test("a token of a kind that the microvm's ingress does not let in is none of it", async () => {
  const http = await tokenFor(bench, vm);
  const shell = await tokenFor(bench, vm, { kind: "shell", ports: [] });
  const failed = { status: 403, body: "Token authentication failed", headers: { "x-aws-proxy-error": "UNAUTHORIZED" } };
  for (const [ingress, token] of [
    [{ http: false, shell: true }, http],
    [{ http: true, shell: false }, shell],
    [{ http: false, shell: false }, http],
  ] as const) {
    vm.ingress = ingress;
    expect(await ask(bench, vm, auth(token))).toMatchObject(failed);
  }
  expect(vm.entered).toBe(0);
});

test("nothing listens on the port: the app cannot be reached", async () => {
  await app[Symbol.asyncDispose]();
  expect(shown(await ask(bench, vm, auth(await tokenFor(bench, vm))))).toEqual(badGateway("APP_CONNECT_FAILED"));
  expect(vm.left).toBe(1);
});

test("a microvm that takes no traffic cannot be reached", async () => {
  const token = await tokenFor(bench, vm);
  for (const state of ["terminated", "suspended", "resume_failed", "busy", "timeout", "unreachable"] as const) {
    vm.state = state;
    expect(shown(await ask(bench, vm, auth(token))), state).toEqual(badGateway("MICROVM_CONNECT_FAILED"));
  }
});

test("a request waits for its microvm and is then delivered once", async () => {
  await using patient = await startBench();
  const sleeper = patient.gate.add();
  let requests = 0;
  await using _ = await serveApp(
    sleeper,
    createServer((_req, res) => {
      requests++;
      res.end("awake");
    }),
  );
  sleeper.state = "waking";
  sleeper.once("entered", () => setImmediate(() => sleeper.wake()));
  expect(await ask(patient, sleeper, auth(await tokenFor(patient, sleeper)))).toMatchObject({ body: "awake" });
  expect(requests).toBe(1);
});

test("a wait that takes too long ends with 502", async () => {
  vm.state = "waking";
  expect(shown(await ask(bench, vm, auth(await tokenFor(bench, vm))))).toEqual(badGateway("MICROVM_CONNECT_FAILED"));
});

test("a failure of ours is a 500 that says nothing", async () => {
  vm.state = "broken";
  expect(await ask(bench, vm, auth(await tokenFor(bench, vm)))).toMatchObject({ status: 500, body: "" });
});

test("whoever is refused has not woken the microvm", async () => {
  vm.state = "waking";
  await ask(bench, vm);
  await ask(bench, vm, auth("garbage"));
  await ask(bench, vm, auth(await tokenFor(bench, bench.gate.add())));
  await ask(bench, vm, auth(await tokenFor(bench, vm, { expiresAt: new Date(0) })));
  expect(vm.entered).toBe(0);
});

test("a refused upload still gets its answer, and the connection is of use afterwards", async () => {
  const socket = await connectRaw(bench, hostOf(vm));
  const body = "x".repeat(300_000);
  const token = await tokenFor(bench, vm);
  socket.write(`POST / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  socket.write(`GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nConnection: close\r\n\r\n`);
  expect(await readAll(socket)).toMatch(/^HTTP\/1.1 403 Forbidden.*missing authenticationHTTP\/1.1 200 OK.*app$/s);
});

test("an endless upload without a token is cut off", async () => {
  await using strict = await startBench({ lingerMs: 50 });
  const socket = await connectRaw(strict, hostOf(vm));
  socket.write(`POST / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const pour = (): void => {
    while (!socket.destroyed && socket.write(`4000\r\n${"x".repeat(0x4000)}\r\n`));
  };
  socket.on("drain", pour);
  pour();
  expect(await readAll(socket)).toMatch(/^HTTP\/1.1 403/);
});
