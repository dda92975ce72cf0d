import { createServer as createTcpServer, type Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  ask,
  type Bench,
  connectRaw,
  hostOf,
  readAll,
  serveApp,
  startBench,
  tokenFor,
  until,
} from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let token: string;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  token = await tokenFor(bench, vm);
  return async () => {
    await until(vm, "left", () => vm.left === vm.entered);
    await until(vm, "streamClosed", () => vm.streams.size === 0);
  };
});

/** An app that sends the bytes whatever it is asked, and then does as told. */
const appThatSays = (bytes: string, then: (socket: Socket) => void = (socket) => socket.end()) =>
  serveApp(
    vm,
    createTcpServer((socket) => {
      socket.on("error", () => {}).resume();
      socket.once("data", () => {
        socket.write(bytes, "latin1");
        then(socket);
      });
    }),
  );
const get = () => ask(bench, vm, { headers: { "X-aws-proxy-auth": token } });
const stayOpen = (): void => {};

const noAnswers: Record<string, string> = {
  nothing: "",
  "another protocol": "SSH-2.0-OpenSSH_9.2\r\n",
  "half a head": "HTTP/1.1 200 OK\r\nContent-Le",
  "a length and chunks": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "chunks and a length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
  "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
  "an odd coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
  "a coding before the chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  "a bare LF": "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\na",
  "a bare CR in a line": "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 1\r\n\r\na",
  "a bare CR in the reason": "HTTP/1.1 200 O\rK\r\nContent-Length: 1\r\n\r\na",
  "a folded line": "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 1\r\n\r\na",
  "a NUL in a line": "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 1\r\n\r\na",
  "status 99": "HTTP/1.1 099 OK\r\nContent-Length: 1\r\n\r\na",
  "a switch of protocols that nobody asked for": "HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
  "a switch without a protocol": "HTTP/1.1 101 OK\r\n\r\n",
  "only interim answers": "HTTP/1.1 100 Continue\r\n\r\n",
};
test.each(Object.keys(noAnswers))("an app that says %s: 502", async (name) => {
  await using _ = await appThatSays(noAnswers[name] ?? "");
  expect(await get()).toMatchObject({ status: 502, body: "", headers: { "x-aws-proxy-error": "APP_CONNECT_FAILED" } });
});

const endless: Record<string, string> = {
  "a line without end": "x".repeat(1 << 16),
  "header lines without end": "X: y\r\n".repeat(1 << 13),
  "interim answers without end": "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1 << 10),
};
test.each(Object.keys(endless))("an app that sends %s: 502, and it is cut off", async (name) => {
  const start = name.startsWith("interim") ? "" : "HTTP/1.1 200 OK\r\nX: ";
  await using _ = await appThatSays(start, (socket) => {
    const pour = (): void => {
      while (!socket.destroyed && socket.write(endless[name] ?? ""));
    };
    socket.on("drain", pour);
    pour();
  });
  expect(await get()).toMatchObject({ status: 502, headers: { "x-aws-proxy-error": "APP_CONNECT_FAILED" } });
});

test("trailers without end cut the answer", async () => {
  await using _ = await appThatSays(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
    (socket) => {
      socket.write("X: y\r\n".repeat(1 << 14));
    },
  );
  await expect(get()).rejects.toThrow(/aborted|hang up|ECONNRESET/);
});

test("bytes after the answer reach nobody", async () => {
  const answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
  await using _ = await appThatSays(`${answer}${answer.replace("200 OK", "200 EVIL")}`, stayOpen);
  const socket = await connectRaw(bench, hostOf(vm));
  const one = `GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\n`;
  socket.write(`${one}\r\n${one}Connection: close\r\n\r\n`);
  const text = await readAll(socket);
  expect(text.match(/HTTP\/1.1 200 OK/g)).toHaveLength(2);
  expect(text).not.toContain("EVIL");
});

test("a body where none may be is not passed on", async () => {
  await using _ = await appThatSays(
    "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 EVIL\r\nContent-Length: 0\r\n\r\n",
  );
  const answer = await get();
  expect(answer).toMatchObject({ status: 204, body: "" });
  expect(answer.headers).not.toHaveProperty("content-length");
});

test("an app cannot speak as the endpoint", async () => {
  await using _ = await appThatSays(
    "HTTP/1.1 403 No\r\nX-AWS-Proxy-Error: UNAUTHORIZED\r\nx-aws-proxy-new: 1\r\nContent-Length: 0\r\n\r\n",
  );
  const answer = await get();
  expect(answer.status).toBe(403);
  expect(answer.rawHeaders.join().toLowerCase()).not.toContain("x-aws-proxy");
});

test("a status beyond the known ones, and no reason, pass", async () => {
  await using _ = await appThatSays("HTTP/1.1 799\r\nContent-Length: 1\r\n\r\na");
  expect(await get()).toMatchObject({ status: 799, body: "a" });
});
