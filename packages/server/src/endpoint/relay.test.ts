import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type Socket } from "node:net";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  ask,
  type Bench,
  connectRaw,
  hostOf,
  open,
  readAll,
  serveApp,
  startBench,
  tokenFor,
  until,
  whole,
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
  // Whatever a test did, its visits are over and its streams closed.
  return async () => {
    await until(vm, "left", () => vm.left === vm.entered);
    await until(vm, "streamClosed", () => vm.streams.size === 0);
  };
});

const http = (listener: RequestListener) => serveApp(vm, createServer(listener));
/** An app that reads the request's head and then does as it likes. */
const tcp = (app: (socket: Socket, head: string) => void) =>
  serveApp(
    vm,
    createTcpServer((socket) => {
      socket.on("error", () => {});
      let head = "";
      const onData = (chunk: Buffer): void => {
        head += chunk.toString("latin1");
        if (!head.includes("\r\n\r\n")) return;
        socket.off("data", onData);
        app(socket, head);
      };
      socket.on("data", onData);
    }),
  );
const auth = () => ({ "X-aws-proxy-auth": token });
const raw = async (request: string): Promise<string> => {
  const socket = await connectRaw(bench, hostOf(vm));
  socket.write(request, "latin1");
  return readAll(socket);
};
const pairs = (lines: readonly string[]): string[] =>
  lines.flatMap((line, i) => (i % 2 === 0 ? [`${line}: ${lines[i + 1]}`] : []));

test("the app sees the request as it was sent, without what is ours", async () => {
  let head = "";
  await using _ = await tcp((socket, text) => {
    head = text;
    socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  await raw(
    `GET /a/../b%2f?x=1&&y=%zz HTTP/1.1\r\nX-First: 1\r\nHost: ${hostOf(vm).toUpperCase()}:443\r\nX-aws-proxy-auth: ${token}\r\n` +
      "x-AWS-proxy-PORT: 8080\r\nx-aws-proxy-anything: 1\r\nCookie: a=1\r\nX-Twice: 1\r\nAccept: */*\r\nx-twice: 2\r\n" +
      "Authorization: Basic x\r\ntraceparent: 00-1\r\nX-Latin: \xe9\r\nX-Amzn-RequestId: forged\r\nX-Forwarded-For: 1.2.3.4\r\n" +
      "Keep-Alive: 5\r\nX-Drop: 1\r\nConnection: close, x-drop, host\r\n\r\n",
  );
  const [request, ...lines] = head.trimEnd().split("\r\n");
  expect(request).toBe("GET /a/../b%2f?x=1&&y=%zz HTTP/1.1");
  expect(lines).toEqual([
    "X-First: 1",
    `Host: ${hostOf(vm).toUpperCase()}:443`,
    "Cookie: a=1",
    "X-Twice: 1",
    "Accept: */*",
    "x-twice: 2",
    "Authorization: Basic x",
    "traceparent: 00-1",
    "X-Latin: \xe9",
    "X-Forwarded-For: 1.2.3.4",
    expect.stringMatching(/^x-amzn-requestid: [0-9a-f-]{36}$/),
    "Connection: keep-alive",
  ]);
});

test("the client sees the answer as the app sent it, without what is between the app and us", async () => {
  await using _ = await tcp((socket) =>
    socket.end(
      "HTTP/1.1 418 Short and \xfe\x01stout\r\nSet-Cookie: a=1\r\nX-One: 1\r\nset-cookie: b=2\r\nContent-Length: 3\r\n" +
        "Connection: close, x-one\r\nKeep-Alive: timeout=9\r\nx-aws-proxy-error: UNAUTHORIZED\r\nX-Latin: \xe9\r\n\r\nabc",
      "latin1",
    ),
  );
  const text = await raw(
    `GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nConnection: close\r\n\r\n`,
  );
  expect(text).toBe(
    "HTTP/1.1 418 Short and \xfestout\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 3\r\nX-Latin: \xe9\r\n" +
      "Connection: close\r\n\r\nabc",
  );
});

test("every method reaches the app, with an honest length", async () => {
  await using _ = await http((req, res) => {
    res.setHeader("X-Method", req.method ?? "");
    res.setHeader("X-Length", `${req.headers["content-length"]} ${req.headers["transfer-encoding"]}`);
    res.end();
  });
  for (const method of ["GET", "DELETE", "OPTIONS", "PROPFIND", "POST", "PUT", "PATCH"]) {
    const text = await raw(
      `${method} / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nConnection: close\r\n\r\n`,
    );
    expect(text).toContain(`X-Method: ${method}\r\n`);
    const length = ["GET", "DELETE", "OPTIONS"].includes(method) ? "undefined" : "0";
    expect(text, method).toContain(`X-Length: ${length} undefined`);
  }
  const star = `OPTIONS * HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nConnection: close\r\n\r\n`;
  expect(await raw(star)).toMatch(/^HTTP\/1.1 200/);
});

test("bodies keep their framing in both directions", async () => {
  await using _ = await http((req, res) => {
    const { "content-length": length, "transfer-encoding": coding } = req.headers;
    res.setHeader("X-Framing", `${length} ${coding}`);
    if (length !== undefined) res.setHeader("Content-Length", length);
    req.pipe(res);
  });
  const sized = await ask(bench, vm, { method: "PUT", headers: { ...auth(), "Content-Length": 5 } }, "hello");
  expect(sized).toMatchObject({ body: "hello", headers: { "x-framing": "5 undefined", "content-length": "5" } });
  const headers = { ...auth(), "Transfer-Encoding": "chunked" };
  for (const method of ["POST", "GET", "DELETE"]) {
    const chunked = await ask(bench, vm, { method, headers }, "hello");
    expect(chunked).toMatchObject({ body: "hello", headers: { "x-framing": "undefined chunked" } });
    expect(chunked.headers).toMatchObject({ "transfer-encoding": "chunked" });
  }
});

test("a stream to the guest need not be a socket", async () => {
  await using _ = await http((req, res) => req.pipe(res));
  vm.distant = true;
  const body = "x".repeat(1_000_000);
  const headers = { ...auth(), "Content-Length": body.length };
  expect(await ask(bench, vm, { method: "POST", headers }, body)).toMatchObject({ status: 200, body });
});

test("compressed bodies pass untouched", async () => {
  const zipped = gzipSync("x".repeat(100_000));
  await using _ = await http((_req, res) => res.writeHead(200, { "Content-Encoding": "gzip" }).end(zipped));
  const answer = await ask(bench, vm, { headers: auth() });
  expect(answer.headers["content-encoding"]).toBe("gzip");
  expect(gunzipSync(Buffer.from(answer.body, "latin1")).length).toBe(100_000);
});

test("answers without a body have none, and the connection goes on", async () => {
  await using _ = await http((req, res) => {
    if (req.url === "/204") res.writeHead(204).end();
    else if (req.url === "/304") res.writeHead(304, { ETag: "x", "Content-Length": "7" }).end();
    else res.writeHead(200, { "Content-Length": "7" }).end("seven77");
  });
  const head = (line: string, last = false) =>
    `${line} HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\n${last ? "Connection: close\r\n" : ""}\r\n`;
  const text = await raw(head("GET /204") + head("GET /304") + head("HEAD /") + head("GET /", true));
  expect(text.match(/^HTTP\/1.1 \d+/gm)).toEqual(["HTTP/1.1 204", "HTTP/1.1 304", "HTTP/1.1 200", "HTTP/1.1 200"]);
  expect(text.match(/seven77/g)).toHaveLength(1);
  expect(text.match(/Content-Length: 7/g)).toHaveLength(3);
});

test("an answer that ends with the app's connection ends whole", async () => {
  await using _ = await tcp((socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nuntil the end"));
  expect(await ask(bench, vm, { headers: auth() })).toMatchObject({ status: 200, body: "until the end" });
});

test("trailers pass both ways, except those that must not", async () => {
  let received: string[] = [];
  await using _ = await http(async (req, res) => {
    for await (const _chunk of req);
    received = pairs(req.rawTrailers);
    res.writeHead(200, { Trailer: "grpc-status", "X-TE": req.headers.te ?? "" });
    res.write("body");
    res.addTrailers({ "grpc-status": "0", "x-aws-proxy-error": "UNAUTHORIZED" });
    res.end();
  });
  const text = await raw(
    `POST / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nTE: trailers\r\nTrailer: X-Sum\r\nConnection: close, TE\r\n` +
      "Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nx-aws-proxy-auth: x\r\nX-Sum: 2\r\n\r\n",
  );
  expect(received).toEqual(["X-Sum: 1", "X-Sum: 2"]);
  expect(text).toContain("Trailer: grpc-status\r\n");
  expect(text).toContain("X-TE: trailers\r\n");
  expect(text).toMatch(/4\r\nbody\r\n0\r\ngrpc-status: 0\r\n\r\n$/);
});

test("100-continue is the app's to say", async () => {
  const app = createServer();
  app.on("checkContinue", (req: IncomingMessage, res: ServerResponse) => {
    if (req.url === "/no") return res.writeHead(413).end();
    res.writeContinue();
    req.pipe(res);
  });
  await using _ = await serveApp(vm, app);
  const headers = { ...auth(), Expect: "100-continue", "Content-Length": 5 };
  const yes = open(bench, vm, { method: "POST", headers });
  yes.flushHeaders();
  await once(yes, "continue");
  yes.end("hello");
  expect(await whole((await once(yes, "response"))[0])).toMatchObject({ status: 200, body: "hello" });
  const no = open(bench, vm, { method: "POST", path: "/no", headers });
  no.on("continue", () => expect.unreachable());
  no.on("error", () => {});
  no.flushHeaders();
  const [answer] = (await once(no, "response")) as [IncomingMessage];
  expect(answer.statusCode).toBe(413);
  expect(answer.headers.connection).toBe("close"); // the body may or may not come now
  no.destroy();
});

test("a refusal comes instead of 100-continue; other expectations fail", async () => {
  const request = open(bench, vm, { method: "POST", headers: { Expect: "100-continue", "Content-Length": 5 } });
  request.on("continue", () => expect.unreachable());
  request.flushHeaders();
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  expect(answer.statusCode).toBe(403);
  request.destroy();
  expect(await ask(bench, vm, { headers: { ...auth(), Expect: "a miracle" } })).toMatchObject({ status: 417 });
});

test("early hints and processing reach the client before the answer", async () => {
  await using _ = await http((_req, res) => {
    res.writeProcessing();
    res.writeEarlyHints({ link: ["</a.css>; rel=preload", "</b.css>; rel=preload"], "x-secret": "1" }, () =>
      res.end("done"),
    );
  });
  const text = await raw(
    `GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nConnection: close\r\n\r\n`,
  );
  expect(text).toMatch(
    /^HTTP\/1.1 102 .*HTTP\/1.1 103 Early Hints\r\nLink: <\/a.css>; rel=preload, <\/b.css>.*HTTP\/1.1 200 OK/is,
  );
});

test("server-sent events arrive one by one, the head before the first", async () => {
  let send = (_text: string): void => {};
  await using _ = await http((_req, res) => {
    res.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
    send = (text) => void res.write(text);
    res.on("close", () => res.destroy());
  });
  const request = open(bench, vm, { headers: auth() });
  request.end();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  message.setEncoding("utf8").on("error", () => {});
  for (let i = 0; i < 20; i++) {
    send(`data: ${i}\n\n`);
    expect(await once(message, "data")).toEqual([`data: ${i}\n\n`]);
  }
  request.destroy();
});

test("both directions stream at once", async () => {
  await using _ = await http((req, res) => req.pipe(res));
  const request = open(bench, vm, { method: "POST", headers: { ...auth(), "Transfer-Encoding": "chunked" } });
  request.write("0");
  const [message] = (await once(request, "response")) as [IncomingMessage];
  message.setEncoding("utf8");
  expect(await once(message, "data")).toEqual(["0"]);
  for (let i = 1; i < 10; i++) {
    request.write(String(i));
    expect(await once(message, "data")).toEqual([String(i)]);
  }
  request.end();
  message.resume();
  await once(message, "end");
});

test("an app may answer before it has read the upload", async () => {
  await using _ = await http((_req, res) => res.writeHead(413).end("too much"));
  const request = open(bench, vm, { method: "POST", headers: { ...auth(), "Content-Length": 50_000_000 } });
  request.on("error", () => {});
  request.write(Buffer.alloc(1_000_000));
  const [message] = (await once(request, "response")) as [IncomingMessage];
  expect(await whole(message)).toMatchObject({ status: 413, body: "too much" });
  request.destroy();
});

test("a client that goes away takes the app's connection with it", async () => {
  const started = Promise.withResolvers<IncomingMessage>();
  await using _ = await http((req, res) => {
    res.write("begun");
    started.resolve(req);
  });
  const request = open(bench, vm, { headers: auth() });
  request.on("error", () => {});
  request.end();
  const seenByApp = await started.promise;
  const closed = once(seenByApp.socket, "close");
  request.destroy();
  await closed;
});

test("a client that goes away while the microvm wakes is forgotten", async () => {
  vm.state = "waking";
  const request = open(bench, vm, { headers: auth() });
  request.on("error", () => {});
  request.end();
  await once(vm, "entered");
  request.destroy();
  await until(vm, "left", () => vm.left === 1);
});

test("an answer that breaks off in the middle is cut, not ended", async () => {
  for (const head of ["Content-Length: 100", "Transfer-Encoding: chunked"]) {
    await using _ = await tcp((socket) => socket.end(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n5\r\nabc`));
    await expect(ask(bench, vm, { headers: auth() })).rejects.toThrow(/aborted|hang up|ECONNRESET/);
  }
});

test("a microvm that leaves RUNNING cuts its streams", async () => {
  await using _ = await http((_req, res) => res.write("begun"));
  const request = open(bench, vm, { headers: auth() });
  request.end();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  message.resume();
  vm.stop();
  await expect(once(message, "end")).rejects.toThrow("aborted");
});

test("a client that waits for its answer when the microvm leaves RUNNING is told so", async () => {
  await using _ = await http(() => vm.stop());
  const { status, headers, body } = await ask(bench, vm, { headers: auth() });
  expect({ status, error: headers["x-aws-proxy-error"], body }).toEqual({
    status: 502,
    error: "MICROVM_CONNECT_FAILED",
    body: "",
  });
});

test("bytes count as activity, in either direction", async () => {
  await using _ = await http((req, res) => req.pipe(res));
  const request = open(bench, vm, { method: "POST", headers: { ...auth(), "Transfer-Encoding": "chunked" } });
  request.write("a");
  const [message] = (await once(request, "response")) as [IncomingMessage];
  await once(message, "data");
  const before = vm.touched;
  request.write("b");
  await once(message, "data");
  expect(vm.touched).toBeGreaterThanOrEqual(before + 2);
  request.end();
  message.resume();
  await once(message, "end");
});

test("HTTP/1.0 clients get an answer that ends with the connection", async () => {
  await using _ = await http((_req, res) => {
    res.write("a");
    res.end("b");
  });
  const text = await raw(`GET / HTTP/1.0\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\n\r\n`);
  expect(text).toMatch(/\r\n\r\nab$/);
  expect(text).not.toContain("chunked");
});
