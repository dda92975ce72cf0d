import { once } from "node:events";
import { createServer as createHttp1 } from "node:http";
import { type ClientHttp2Session, constants, createServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { createServer as createTcpServer } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { ask, type Bench, hostOf, open, serveApp, startBench, tokenFor, until } from "../testing/bench.ts";
import { answerOf, askHttp2, connectHttp2 } from "../testing/http2.ts";
import type { StubMicrovm } from "../testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let client: ClientHttp2Session;
let force: Record<string, string>;
beforeAll(async () => {
  bench = await startBench({ connectTimeoutMs: 200 });
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  force = { "x-aws-proxy-auth": await tokenFor(bench, vm), "x-aws-proxy-force-h2": "true" };
  client = await connectHttp2(bench, vm);
  // Whatever a test did, its visits are over and its streams closed.
  return async () => {
    client.destroy();
    await until(vm, "left", () => vm.left === vm.entered);
    await until(vm, "streamClosed", () => vm.streams.size === 0);
  };
});

type Lines = readonly string[];
/** An app that speaks nothing but cleartext HTTP/2. */
const http2 = (app: (stream: ServerHttp2Stream, lines: Lines, server: Http2Server) => void) => {
  const server = createServer({ settings: { maxConcurrentStreams: 100 } });
  server.on("sessionError", () => {});
  server.on("stream", (stream, _headers, _flags, lines?: Lines) => {
    stream.on("error", () => {});
    app(stream, lines ?? [], server);
  });
  return serveApp(vm, server);
};
const badGateway = { status: 502, body: "", headers: { "x-aws-proxy-error": "APP_CONNECT_FAILED" } };

test("the app sees the request in HTTP/2, without what is ours", async () => {
  let seen: Lines = [];
  await using _ = await http2((stream, lines) => {
    seen = lines;
    stream.respond({ ":status": 200 }, { endStream: true });
  });
  const lines = [":path", "/a?b=c", "x-b", "1", "te", "trailers", "cookie", "a=1", "x-b", "2", "x-aws-proxy-any", "1"];
  expect(await askHttp2(client, [...lines, ...Object.entries(force).flat()])).toMatchObject({ status: 200 });
  expect(seen).toEqual([
    ...[":method", "GET", ":scheme", "http", ":authority", `${hostOf(vm)}:${bench.server.address.port}`],
    ...[":path", "/a?b=c", "x-b", "1", "x-b", "2", "cookie", "a=1"],
    ...["x-amzn-requestid", expect.stringMatching(/^[0-9a-f-]{36}$/), "te", "trailers"],
  ]);
});

test("body, interim answers, answer and trailers pass, for clients of HTTP/2 and of HTTP/1.1", async () => {
  await using _ = await http2((stream) => {
    let body = "";
    let sum: unknown;
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      body += chunk;
    });
    stream.on("trailers", (trailers) => {
      sum = trailers["x-sum"];
    });
    stream.on("end", () => {
      stream.additionalHeaders({ ":status": 103, link: "</a.css>" });
      stream.respond({ ":status": 201, "set-cookie": ["a=1", "b=2"] }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": String(sum) }));
      stream.end(`${body}!`);
    });
  });
  const stream = client.request({ ":method": "POST", ...force }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
  const hints: unknown[] = [];
  stream.on("headers", (headers) => hints.push(headers.link));
  stream.end("hello");
  expect(await answerOf(stream)).toMatchObject({
    status: 201,
    body: "hello!",
    headers: { "set-cookie": ["a=1", "b=2"] },
    trailers: { "x-sum": "7" },
  });
  expect(hints).toEqual(["</a.css>"]);
  const plain = await ask(bench, vm, { method: "POST", headers: { ...force, "Content-Length": 5 } }, "hello");
  expect(plain).toMatchObject({ status: 201, body: "hello!", headers: { "transfer-encoding": "chunked" } });
  expect(plain.rawTrailers).toEqual(["x-sum", "undefined"]);
});

test("many requests share a connection to the app, which ends with the client's", async () => {
  const sessions = new Set<unknown>();
  await using _ = await http2((stream) => {
    sessions.add(stream.session);
    stream.respond({ ":status": 200 });
    stream.end("x");
  });
  const answers = await Promise.all(Array.from({ length: 20 }, () => askHttp2(client, force)));
  expect(answers.map(({ body }) => body).join("")).toBe("x".repeat(20));
  expect(sessions.size).toBe(1);
  const other = await connectHttp2(bench, vm);
  await askHttp2(other, force);
  expect(sessions.size).toBe(2); // no client gets another's
  expect(vm.streams.size).toBe(2);
  other.destroy();
  await until(vm, "streamClosed", () => vm.streams.size === 1);
});

test("a connection that the app ends is replaced", async () => {
  let requests = 0;
  await using _ = await http2((stream) => {
    stream.respond({ ":status": 200 });
    stream.end(String(++requests));
    if (requests === 1) stream.session?.close();
  });
  expect((await askHttp2(client, force)).body).toBe("1");
  await until(vm, "streamClosed", () => vm.streams.size === 0);
  expect((await askHttp2(client, force)).body).toBe("2");
});

test("a suspend ends the connection, a resume begins a new one", async () => {
  await using _ = await http2((stream) => {
    stream.respond({ ":status": 200 });
    stream.end("x");
  });
  await askHttp2(client, force);
  vm.stop("running");
  await until(vm, "streamClosed", () => vm.streams.size === 0);
  expect(await askHttp2(client, force)).toMatchObject({ status: 200, body: "x" });
});

test("an app that speaks only HTTP/1.1, or nothing at all: 502", async () => {
  await using _ = await serveApp(
    vm,
    createHttp1((_req, res) => res.end("plain")),
  );
  expect(await askHttp2(client, force)).toMatchObject(badGateway);
  expect(await ask(bench, vm, { headers: force })).toMatchObject(badGateway);
  const { "x-aws-proxy-force-h2": _unused, ...unforced } = force;
  expect(await askHttp2(client, { ...unforced, "x-aws-proxy-force-h2": "yes" })).toMatchObject({ body: "plain" });
  expect(await askHttp2(client, { ...unforced, "content-type": "application/grpc-web" })).toMatchObject({
    body: "plain",
  });
  await using _silent = await serveApp(
    vm,
    createTcpServer((socket) => socket.on("error", () => {}).resume()),
  );
  expect(await askHttp2(client, force)).toMatchObject(badGateway); // and not for ever
  await using _rude = await serveApp(
    vm,
    createTcpServer((socket) => socket.destroy()),
  );
  expect(await askHttp2(client, force)).toMatchObject(badGateway);
  vm.ports.set(8080, 1);
  expect(await askHttp2(client, force)).toMatchObject(badGateway);
});

test("an app that resets, or breaks off, is not taken for one that has answered", async () => {
  await using _ = await http2((stream, lines) => {
    const path = lines[lines.indexOf(":path") + 1];
    if (path === "/reset") stream.close(constants.NGHTTP2_REFUSED_STREAM);
    else {
      stream.respond({ ":status": 200 });
      stream.write("half", () => {
        if (path === "/cut") stream.destroy(new Error("cut"));
        else stream.session?.destroy();
      });
    }
  });
  expect(await askHttp2(client, { ":path": "/reset", ...force })).toMatchObject(badGateway);
  for (const path of ["/cut", "/gone"])
    expect((await askHttp2(client, { ":path": path, ...force })).reset, path).toBe(constants.NGHTTP2_INTERNAL_ERROR);
  await expect(ask(bench, vm, { path: "/cut", headers: force })).rejects.toThrow(/aborted|hang up|ECONNRESET/);
});

test("a client that cancels cancels at the app, and nothing else", async () => {
  const codes: unknown[] = [];
  const closed = Promise.withResolvers<void>();
  await using _ = await http2((stream, lines) => {
    stream.respond({ ":status": 200 });
    stream.write("begun");
    if (lines.includes("/other")) return void setImmediate(() => closed.promise.then(() => stream.end("!")));
    stream.on("close", () => {
      codes.push(stream.rstCode);
      closed.resolve();
    });
  });
  const other = askHttp2(client, { ":path": "/other", ...force });
  const stream = client.request(force);
  stream.on("error", () => {});
  await once(stream, "data");
  stream.close(constants.NGHTTP2_CANCEL);
  expect((await other).body).toBe("begun!");
  expect(codes).toEqual([constants.NGHTTP2_CANCEL]);
});

test("a hostile app: endless interim answers, headers and settings are no answer", async () => {
  await using _ = await http2((stream, lines) => {
    const path = lines[lines.indexOf(":path") + 1];
    if (path === "/interim") for (let i = 0; i < 100; i++) stream.additionalHeaders({ ":status": 103, link: "</a>" });
    else if (path === "/headers") stream.respond({ ":status": 200, "x-long": "y".repeat(60_000) });
    else if (path === "/settings") {
      const change = (): void => void (stream.destroyed || stream.session?.settings({}, () => change()));
      change();
    } else stream.respond({ ":status": 200 }, { endStream: true });
  });
  for (const path of ["/interim", "/headers", "/settings"])
    expect(await askHttp2(client, { ":path": path, ...force }), path).toMatchObject({ status: 502 });
  expect(await askHttp2(client, force)).toMatchObject({ status: 200 });
});

test("bodies go no faster than they are read, either way", async () => {
  const CHUNK = Buffer.alloc(64 * 1024);
  const pour = (to: NodeJS.WritableStream, count: (bytes: number) => void): void => {
    const more = (): void => {
      for (let full = false; !full; ) {
        count(CHUNK.length);
        full = !to.write(CHUNK);
      }
    };
    to.on("drain", more);
    more();
  };
  const stalls = async (written: () => number): Promise<number> => {
    for (let before = -1; before !== written(); ) {
      before = written();
      await new Promise((resolve) => setTimeout(resolve, 150)); // a stall is the absence of events
    }
    return written();
  };
  let sent = 0;
  await using _ = await http2((stream, lines) => {
    stream.respond({ ":status": 200 });
    if (lines.includes("/down")) pour(stream, (bytes) => (sent += bytes));
  });
  const down = client.request({ ":path": "/down", ...force });
  down.on("error", () => {});
  await once(down, "response");
  expect(await stalls(() => sent)).toBeLessThan(40 << 20);
  down.destroy();
  let uploaded = 0;
  const up = client.request({ ":method": "POST", ":path": "/up", ...force });
  up.on("error", () => {});
  pour(up, (bytes) => (uploaded += bytes));
  await once(up, "response");
  expect(await stalls(() => uploaded)).toBeLessThan(40 << 20);
  up.destroy();
});

test("a request in HTTP/1.1 with an upload keeps its pace and its end", async () => {
  await using _ = await http2((stream) => {
    stream.respond({ ":status": 200 });
    stream.pipe(stream);
  });
  const request = open(bench, vm, { method: "POST", headers: { ...force, "Transfer-Encoding": "chunked" } });
  request.write("a");
  const [message] = await once(request, "response");
  message.setEncoding("utf8");
  expect(await once(message, "data")).toEqual(["a"]);
  request.end("b");
  expect(await once(message, "data")).toEqual(["b"]);
  await once(message, "end");
});
