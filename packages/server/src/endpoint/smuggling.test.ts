import { createServer } from "node:http";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Bench, connectRaw, hostOf, readAll, serveApp, startBench, tokenFor } from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let app: AsyncDisposable;
let host: string;
let auth: string;
/** What the app was asked for: nothing of a refused request may reach it. */
const seen: string[] = [];
beforeAll(async () => {
  bench = await startBench();
  vm = bench.gate.add();
  host = `Host: ${hostOf(vm)}\r\n`;
  auth = `X-aws-proxy-auth: ${await tokenFor(bench, vm)}\r\n`;
  app = await serveApp(
    vm,
    createServer({ maxHeaderSize: 64 * 1024 }, (req, res) => {
      seen.push(`${req.method} ${req.url}`);
      req.resume().on("end", () => res.end("app"));
    }),
  );
});
afterAll(async () => {
  await app[Symbol.asyncDispose]();
  await bench[Symbol.asyncDispose]();
});

async function send(request: string): Promise<string> {
  const socket = await connectRaw(bench, hostOf(vm));
  socket.write(request, "latin1");
  return readAll(socket);
}

/** Each is followed by a request that a second reader might take for a new one. */
const smuggled = (): string => `GET /smuggled HTTP/1.1\r\n${host}${auth}\r\n`;
const post = (lines: string, body = ""): string =>
  `POST /first HTTP/1.1\r\n${host}${auth}${lines}\r\n${body}${smuggled()}`;
const get = (lines: string): string => `GET /first HTTP/1.1\r\n${lines}\r\n${smuggled()}`;

const malformed: Record<string, () => string> = {
  "two Hosts": () => get(`${host}${auth}${host}`),
  "two different Hosts": () => get(`${host}${auth}Host: other\r\n`),
  "no Host": () => get(auth),
  "an empty Host": () => get(`Host:\r\n${auth}`),
  "a Host with credentials": () => get(`Host: a@${hostOf(vm)}\r\n${auth}`),
  "a Host with a path": () => get(`Host: ${hostOf(vm)}/\r\n${auth}`),
  "a list of Hosts": () => get(`Host: ${hostOf(vm)}, ${hostOf(vm)}\r\n${auth}`),
  "two equal lengths": () => post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
  "two different lengths": () => post("Content-Length: 5\r\nContent-Length: 0\r\n", "hello"),
  "a list of lengths": () => post("Content-Length: 5, 5\r\n", "hello"),
  "a signed length": () => post("Content-Length: +5\r\n", "hello"),
  "a hexadecimal length": () => post("Content-Length: 0x5\r\n", "hello"),
  "an empty length": () => post("Content-Length:\r\n"),
  "a length beyond counting": () => post(`Content-Length: ${"9".repeat(30)}\r\n`),
  "a length, then chunks": () => post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  "chunks, then a length": () => post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
  "two codings": () => post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  "another coding first": () => post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
  "another coding last": () => post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
  "the identity coding": () => post("Transfer-Encoding: identity\r\n"),
  "an unknown coding": () => post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
  "an empty list member": () => post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n"),
  "a coding with a parameter": () => post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
  "a coding after a control character": () => post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
  "a space before the colon": () => post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
  "a folded coding": () => post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
  "a folded line": () => get(`${host}${auth}X-Folded: a\r\n b\r\n`),
  "a first line that begins with a space": () => get(` X: y\r\n${host}${auth}`),
  "a bare LF in the header": () => get(`${host}${auth}X: y\nZ: z\r\n`),
  "a bare LF at the end": () => `GET /first HTTP/1.1\r\n${host}${auth}\n${smuggled()}`,
  "a bare LF in the request line": () => `GET /first HTTP/1.1\n${host}${auth}\r\n${smuggled()}`,
  "a bare CR": () => get(`${host}${auth}X: y\rZ: z\r\n`),
  "a NUL": () => get(`${host}${auth}X: y\0\r\n`),
  "an odd header name": () => get(`${host}${auth}X(Y): z\r\n`),
  "chunks in HTTP/1.0": () =>
    `POST /first HTTP/1.0\r\n${host}${auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled()}`,
  "an absolute target": () => `GET http://${hostOf(vm)}/first HTTP/1.1\r\n${host}${auth}\r\n`,
  "another host's absolute target": () => `GET https://other/first HTTP/1.1\r\n${host}${auth}\r\n`,
  "a target without a slash": () => `GET first HTTP/1.1\r\n${host}${auth}\r\n`,
  "a star outside OPTIONS": () => `GET * HTTP/1.1\r\n${host}${auth}\r\n`,
  "a space in the target": () => `GET /first second HTTP/1.1\r\n${host}${auth}\r\n`,
  "an unknown version": () => `GET /first HTTP/1.2\r\n${host}${auth}\r\n`,
  "no version": () => "GET /first\r\n\r\n",
  "an unknown method": () => `GRAB /first HTTP/1.1\r\n${host}${auth}\r\n`,
  "HTTP/2 without negotiation": () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "a tunnel request": () => `CONNECT ${hostOf(vm)}:443 HTTP/1.1\r\n${host}${auth}\r\n`,
  garbage: () => "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
};

test.each(Object.keys(malformed))("%s: 400, and the connection ends", async (name) => {
  seen.length = 0;
  const verify = vi.spyOn(bench.tokens, "verify");
  const text = await send(malformed[name]?.() ?? "");
  expect(text).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/);
  expect(text).toMatch(/\r\nConnection: close\r\n/);
  expect(text.match(/HTTP\/1.1/g)).toHaveLength(1);
  expect(verify).not.toHaveBeenCalled(); // nor was the request behind it looked at
  verify.mockRestore();
  expect(seen).toEqual([]);
});

/** The head is good, so the app has been asked before the fault is seen: it may not get more than the faultless part. */
const brokenBodies: Record<string, string> = {
  "a chunk size with a bare LF": "1\na\r\n0\r\n\r\n",
  "a chunk longer than it says": "1\r\nab\r\n0\r\n\r\n",
  "a chunk size beyond counting": "fffffffffffffffff\r\na\r\n0\r\n\r\n",
  "a negative chunk size": "-1\r\na\r\n0\r\n\r\n",
  "a trailer with a bare LF": "0\r\nX: y\n\r\n",
};

test.each(Object.keys(brokenBodies))("%s: the connection is cut", async (name) => {
  seen.length = 0;
  const text = await send(post("Transfer-Encoding: chunked\r\n", brokenBodies[name]));
  expect(text).not.toMatch(/HTTP\/1.1 200/);
  expect(seen).not.toContain("GET /smuggled");
});

test("headers may be 100 lines and 32 KiB, no more", async () => {
  const close = "Connection: close\r\n";
  const lines = (count: number): string => "X: y\r\n".repeat(count - 3); // Host, token and Connection are three
  expect(await send(`GET / HTTP/1.1\r\n${host}${auth}${close}${lines(100)}\r\n`)).toMatch(/^HTTP\/1.1 200/);
  expect(await send(`GET / HTTP/1.1\r\n${host}${auth}${close}${lines(101)}\r\n`)).toMatch(/^HTTP\/1.1 431/);
  const long = (bytes: number): string => `X: ${"y".repeat(bytes)}\r\n`;
  expect(await send(`GET / HTTP/1.1\r\n${host}${auth}${close}${long(30_000)}\r\n`)).toMatch(/^HTTP\/1.1 200/);
  expect(await send(`GET / HTTP/1.1\r\n${host}${auth}${close}${long(40_000)}\r\n`)).toMatch(/^HTTP\/1.1 431/);
  expect(await send(`GET /${"y".repeat(40_000)} HTTP/1.1\r\n${host}${auth}${close}\r\n`)).toMatch(/^HTTP\/1.1 431/);
});

test("a length after a thousand other lines is not overlooked", async () => {
  const text = await send(post(`${"X: y\r\n".repeat(2500)}Content-Length: 5\r\n`, "hello"));
  expect(text).toMatch(/^HTTP\/1.1 431/);
  expect(text.match(/HTTP\/1.1/g)).toHaveLength(1);
});

test("a header that does not come to its end is given up", async () => {
  await using impatient = await startBench({ headerTimeoutMs: 100 });
  const socket = await connectRaw(impatient, hostOf(vm));
  socket.write(`GET / HTTP/1.1\r\n${host}`);
  expect(await readAll(socket)).toMatch(/^HTTP\/1.1 408/);
  const silent = await connectRaw(impatient, hostOf(vm));
  expect(await readAll(silent)).toMatch(/^(HTTP\/1.1 408|$)/);
});

test("an idle connection is given up after its answer", async () => {
  await using impatient = await startBench({ keepAliveTimeoutMs: 50 });
  const socket = await connectRaw(impatient, hostOf(vm));
  socket.write(`GET / HTTP/1.1\r\n${host}\r\n`);
  expect(await readAll(socket)).toMatch(/^HTTP\/1.1 403/);
});

test("requests in one go are answered in their order", async () => {
  seen.length = 0;
  const one = (path: string, last = false): string =>
    `GET ${path} HTTP/1.1\r\n${host}${auth}${last ? "Connection: close\r\n" : ""}\r\n`;
  const text = await send(`${one("/1")}GET /2 HTTP/1.1\r\n${host}\r\n${one("/3", true)}`);
  expect(text.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 200"]);
  expect(seen.toSorted()).toEqual(["GET /1", "GET /3"]);
});
