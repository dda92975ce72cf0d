import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { type ClientHttp2Session, constants } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Bench, hostOf, serveApp, startBench, tokenFor, until } from "../testing/bench.ts";
import { answerOf, askHttp2, connectHttp2 } from "../testing/http2.ts";
import type { StubMicrovm } from "../testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let token: string;
let client: ClientHttp2Session;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  token = await tokenFor(bench, vm);
  client = await connectHttp2(bench, vm);
  // Whatever a test did, its visits are over and its streams closed.
  return async () => {
    client.destroy();
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
const auth = (more: Record<string, string> = {}) => ({ "x-aws-proxy-auth": token, ...more });

test("the app sees an HTTP/1.1 request, without what is ours and with one Cookie", async () => {
  let head = "";
  await using _ = await tcp((socket, text) => {
    head = text;
    socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  await askHttp2(client, [
    ":path",
    "/a/../b%2f?x=1&&y=%zz",
    "x-first",
    "1",
    "x-aws-proxy-auth",
    token,
    "x-aws-proxy-port",
    "8080",
    "x-aws-proxy-anything",
    "1",
    "cookie",
    "a=1",
    "x-twice",
    "1",
    "cookie",
    "b=2",
    "x-twice",
    "2",
    "authorization",
    "Basic x",
    "x-latin",
    "\xe9",
    "x-amzn-requestid",
    "forged",
    "te",
    "trailers",
  ]);
  const [request, ...lines] = head.trimEnd().split("\r\n");
  expect(request).toBe("GET /a/../b%2f?x=1&&y=%zz HTTP/1.1");
  expect(lines).toEqual([
    `Host: ${hostOf(vm)}:${bench.server.address.port}`,
    "x-first: 1",
    "x-twice: 1",
    "x-twice: 2",
    "authorization: Basic x",
    "x-latin: \xe9",
    "Cookie: a=1; b=2",
    expect.stringMatching(/^x-amzn-requestid: [0-9a-f-]{36}$/),
    "TE: trailers",
    "Connection: TE",
  ]);
});

test("the client sees the answer as the app sent it, without what HTTP/2 has no form for", async () => {
  await using _ = await tcp((socket) =>
    socket.end(
      "HTTP/1.1 418 Teapot\r\nSet-Cookie: a=1\r\nX-One: 1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\nDate: then\r\n" +
        "Connection: close, x-one\r\nKeep-Alive: timeout=9\r\nUpgrade: h2c\r\nProxy-Connection: x\r\n" +
        "x-aws-proxy-error: UNAUTHORIZED\r\nX-Latin: \xe9\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\nabc",
      "latin1",
    ),
  );
  const { status, rawHeaders, body } = await askHttp2(client, auth());
  expect({ status, body }).toEqual({ status: 418, body: "abc" });
  expect(rawHeaders).toEqual(
    [":status", "418", "set-cookie", "a=1", "set-cookie", "b=2", "content-length", "3", "date", "then"].concat([
      ...["x-latin", "\xe9", "content-type", "a/b", "content-type", "c/d"],
    ]),
  );
});

test("bodies have a length when the client gave one, and are chunked otherwise", async () => {
  await using _ = await http((req, res) => {
    const { "content-length": length, "transfer-encoding": coding } = req.headers;
    res.setHeader("X-Framing", `${length} ${coding}`);
    req.pipe(res);
  });
  const post = { ":method": "POST", ...auth() };
  const sized = await askHttp2(client, { ...post, "content-length": "5" }, "hello");
  expect(sized).toMatchObject({ body: "hello", headers: { "x-framing": "5 undefined" } });
  const open = await askHttp2(client, post, "hello");
  expect(open).toMatchObject({ body: "hello", headers: { "x-framing": "undefined chunked" } });
  const none = await askHttp2(client, post);
  expect(none).toMatchObject({ body: "", headers: { "x-framing": "0 undefined" } });
  const empty = await askHttp2(client, { ...post, "content-length": "0" }, "");
  expect(empty).toMatchObject({ body: "", headers: { "x-framing": "0 undefined" } });
});

test("answers without a body end with their head", async () => {
  await using _ = await http((req, res) => {
    if (req.url === "/204") res.writeHead(204).end();
    else if (req.url === "/304") res.writeHead(304, { ETag: "x", "Content-Length": "7" }).end();
    else res.writeHead(200, { "Content-Length": "7" }).end("seven77");
  });
  const none = { body: "", reset: 0 };
  expect(await askHttp2(client, { ":path": "/204", ...auth() })).toMatchObject({ status: 204, ...none });
  expect(await askHttp2(client, { ":path": "/304", ...auth() })).toMatchObject({
    ...{ status: 304, headers: { etag: "x", "content-length": "7" } },
    ...none,
  });
  expect(await askHttp2(client, { ":method": "HEAD", ...auth() })).toMatchObject({
    ...{ status: 200, headers: { "content-length": "7" } },
    ...none,
  });
});

test("trailers pass both ways, except those that must not", async () => {
  let received: readonly string[] = [];
  await using _ = await http((req, res) => {
    req.resume().on("end", () => {
      received = req.rawTrailers;
      res.writeHead(200, { Trailer: "X-Sum" });
      res.write("body");
      res.addTrailers({ "X-Sum": "1", "x-aws-proxy-error": "no", "Set-Cookie": "a=1" });
      res.end();
    });
  });
  const stream = client.request({ ":method": "POST", ...auth() }, { waitForTrailers: true });
  stream.on("wantTrailers", () =>
    stream.sendTrailers({ "x-in": ["1", "2"], "x-aws-proxy-auth": "x", authorization: "no" }),
  );
  stream.end("hello");
  const { body, headers, trailers } = await answerOf(stream);
  expect(received).toEqual(["x-in", "1", "x-in", "2"]);
  expect({ body, announced: headers.trailer, trailers: Object.entries(trailers) }).toEqual({
    body: "body",
    announced: "X-Sum",
    trailers: [["x-sum", "1"]],
  });
});

test("100-continue is the app's to say, and so are hints", async () => {
  const app = createServer((_req, res) => {
    res.writeEarlyHints({ link: "</a.css>; rel=preload", "x-hint": "1" }, () => res.end("done"));
  });
  app.on("checkContinue", (req: IncomingMessage, res) => {
    if (req.url === "/no") return res.writeHead(413).end();
    res.writeContinue();
    req.pipe(res);
  });
  await using _ = await serveApp(vm, app);
  const post = { ":method": "POST", expect: "100-continue", ...auth() };
  const yes = client.request(post);
  await once(yes, "continue");
  yes.end("hello");
  expect(await answerOf(yes)).toMatchObject({ status: 200, body: "hello" });
  const no = client.request({ ...post, ":path": "/no" });
  no.on("continue", () => expect.unreachable());
  expect(await answerOf(no)).toMatchObject({ status: 413, reset: constants.NGHTTP2_NO_ERROR });
  const hinted = client.request(auth());
  const hints: unknown[] = [];
  hinted.on("headers", (headers) => hints.push(Object.entries(headers)));
  expect(await answerOf(hinted)).toMatchObject({ body: "done" });
  expect(hints).toEqual([
    [
      [":status", 103],
      ["link", "</a.css>; rel=preload"],
      ["x-hint", "1"],
    ],
  ]);
});

test("server-sent events arrive one by one, the head before the first", async () => {
  let send = (_text: string): void => {};
  const closed = Promise.withResolvers<void>();
  await using _ = await http((_req, res) => {
    res.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
    send = (text) => void res.write(text);
    res.on("close", closed.resolve);
  });
  const stream = client.request(auth());
  stream.on("error", () => {});
  await once(stream, "response");
  stream.setEncoding("utf8");
  for (let i = 0; i < 20; i++) {
    send(`data: ${i}\n\n`);
    expect(await once(stream, "data")).toEqual([`data: ${i}\n\n`]);
  }
  stream.close(constants.NGHTTP2_CANCEL);
  await closed.promise; // the client's reset reaches the app
});

test("both directions stream at once, and count as activity", async () => {
  await using _ = await http((req, res) => req.pipe(res));
  const stream = client.request({ ":method": "POST", ...auth() });
  stream.write("0");
  stream.setEncoding("utf8");
  expect(await once(stream, "data")).toEqual(["0"]);
  for (let i = 1; i < 10; i++) {
    const before = vm.touched;
    stream.write(String(i));
    expect(await once(stream, "data")).toEqual([String(i)]);
    expect(vm.touched).toBeGreaterThanOrEqual(before + 2);
  }
  stream.end();
  await answerOf(stream);
});

test("an upload that breaks off does not look whole to the app", async () => {
  const ends: unknown[] = [];
  const closed = Promise.withResolvers<void>();
  await using _ = await http((req) => {
    req.on("end", () => ends.push("end")).on("error", () => {});
    req.on("data", () => cancel.abort()).on("close", closed.resolve);
  });
  const cancel = new AbortController(); // not close(): Node's client would end the stream first
  const stream = client.request({ ":method": "POST", ...auth() }, { signal: cancel.signal });
  stream.on("error", () => {}).write("half");
  await closed.promise;
  expect(ends).toEqual([]);
});

test("an app may answer before it has read the upload: the answer, then a reset without an error", async () => {
  await using _ = await http((_req, res) => res.writeHead(413).end("too much"));
  const stream = client.request({ ":method": "POST", ...auth() });
  stream.write(Buffer.alloc(1_000_000));
  expect(await answerOf(stream)).toMatchObject({
    status: 413,
    body: "too much",
    reset: constants.NGHTTP2_NO_ERROR,
  });
  expect((await askHttp2(client, auth())).status).toBe(413); // the connection goes on
});

test("an answer that breaks off is reset, not ended, and other streams go on", async () => {
  const other = Promise.withResolvers<void>();
  await using _ = await tcp((socket, head) => {
    if (head.startsWith("GET /sized")) socket.end("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
    else if (head.startsWith("GET /chunked"))
      socket.end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc");
    else void other.promise.then(() => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  });
  const going = askHttp2(client, auth());
  for (const path of ["/sized", "/chunked"]) {
    const cut = await askHttp2(client, { ":path": path, ...auth() });
    expect(cut, path).toMatchObject({ status: 200, reset: constants.NGHTTP2_INTERNAL_ERROR });
  }
  other.resolve();
  expect(await going).toMatchObject({ body: "ok", reset: 0 });
});

test("a microvm that leaves RUNNING resets what has begun, and tells those that wait", async () => {
  const begun = Promise.withResolvers<void>();
  await using _ = await http((req, res) => {
    if (req.url === "/begin") res.write("begun");
    else begun.resolve();
  });
  const streaming = client.request({ ":path": "/begin", ...auth() });
  await once(streaming, "response");
  const first = answerOf(streaming);
  const waiting = askHttp2(client, auth());
  await begun.promise;
  vm.stop("running");
  expect((await first).reset).toBe(constants.NGHTTP2_INTERNAL_ERROR);
  expect(await waiting).toMatchObject({ status: 502, headers: { "x-aws-proxy-error": "MICROVM_CONNECT_FAILED" } });
});

test("a client that goes away while the microvm wakes is forgotten", async () => {
  vm.state = "waking";
  const one = client.request(auth());
  one.on("error", () => {});
  await once(vm, "entered");
  one.close(constants.NGHTTP2_CANCEL);
  await until(vm, "left", () => vm.left === 1);
  client.request(auth()).on("error", () => {});
  await once(vm, "entered");
  client.destroy();
  await until(vm, "left", () => vm.left === 2);
});

test("requests wait for a microvm that wakes and are delivered once", async () => {
  let requests = 0;
  await using _ = await http((_req, res) => {
    requests++;
    res.end("awake");
  });
  vm.state = "waking";
  const waiting = [askHttp2(client, auth()), askHttp2(client, auth())];
  await until(vm, "entered", () => vm.entered === 2);
  vm.wake();
  expect((await Promise.all(waiting)).map(({ body }) => body)).toEqual(["awake", "awake"]);
  expect(requests).toBe(2);
});

test("refusals are those of HTTP/1.1, and wake nothing", async () => {
  const refused = async (headers: Record<string, string | string[]>, body?: string) => {
    const { status, headers: got, body: said, reset } = await askHttp2(client, headers, body);
    return { status, error: got["x-aws-proxy-error"], type: got["content-type"], said, reset };
  };
  const missing = {
    status: 403,
    error: "UNAUTHORIZED",
    type: "text/plain",
    said: "Request missing authentication",
    reset: 0,
  };
  const other = await tokenFor(bench, bench.gate.add());
  expect(await refused({})).toEqual(missing);
  expect(await refused({ "x-aws-proxy-auth": "x" })).toEqual(missing);
  expect(await refused({ "x-aws-proxy-auth": [token, token] })).toEqual(missing);
  const failed = { ...missing, said: "Token authentication failed" };
  expect(await refused({ "x-aws-proxy-auth": other })).toEqual(failed);
  const narrow = await tokenFor(bench, vm, { ports: [{ from: 9000, to: 9000 }] });
  expect(await refused({ "x-aws-proxy-auth": narrow })).toEqual({ ...missing, said: "Access to port denied" });
  expect(await refused(auth({ "x-aws-proxy-port": "x" }))).toMatchObject({ status: 400, said: "Invalid port" });
  expect(await refused({ ":method": "POST" }, "upload")).toMatchObject(missing);
  expect(await refused(auth({ expect: "a miracle" }))).toMatchObject({ status: 417 });
  expect(vm.entered).toBe(0);
  vm.state = "suspended";
  const unreachable = { status: 502, error: "MICROVM_CONNECT_FAILED", type: undefined, said: "", reset: 0 };
  expect(await refused(auth())).toEqual(unreachable);
  vm.state = "running";
  vm.ports.set(8080, 1);
  expect(await refused(auth())).toEqual({ ...unreachable, error: "APP_CONNECT_FAILED" });
  vm.state = "broken";
  expect(await refused(auth())).toMatchObject({ status: 500, said: "" });
});

test("another microvm on the same connection is misdirected", async () => {
  const other = bench.gate.add();
  const asOther = { ":authority": hostOf(other), "x-aws-proxy-auth": await tokenFor(bench, other) };
  expect((await askHttp2(client, asOther)).status).toBe(421);
  expect(other.entered).toBe(0);
});

test("a status that HTTP/2 has no form for is no answer", async () => {
  await using _ = await tcp((socket) => socket.end("HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n"));
  expect(await askHttp2(client, auth())).toMatchObject({
    status: 502,
    headers: { "x-aws-proxy-error": "APP_CONNECT_FAILED" },
  });
});

test("the server's settings are limits that clients hear of", async () => {
  const fresh = await connectHttp2(bench, vm);
  await once(fresh, "remoteSettings");
  expect(fresh.remoteSettings).toMatchObject({ maxConcurrentStreams: 128, initialWindowSize: 1 << 20 });
  fresh.destroy();
});
