import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { Writable } from "node:stream";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Bench, open, serveApp, startBench, tokenFor } from "./testing/bench.ts";
import { connectHttp2 } from "./testing/http2.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

const CHUNK = Buffer.alloc(256 * 1024, "x");
const TOTAL = 200 * 1024 * 1024;
/** What kernel buffers of four sockets and the streams between them may hold. */
const IN_FLIGHT = 40 * 1024 * 1024;

let bench: Bench;
let vm: StubMicrovm;
let headers: Record<string, string>;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  headers = { "X-aws-proxy-auth": await tokenFor(bench, vm), "Content-Length": String(TOTAL) };
});

/** Writes it all, no faster than it is taken. */
class Source {
  written = 0;
  #blocked = Promise.withResolvers<void>();
  readonly done: Promise<void>;

  constructor(to: Writable) {
    this.done = this.#pour(to);
  }

  /** Resolves when nothing has been taken for so long that nobody takes any more. */
  async stalled(): Promise<void> {
    for (let before = -1; before !== this.written; ) {
      before = this.written;
      await this.#blocked.promise;
      await new Promise((resolve) => setTimeout(resolve, 150)); // a stall is the absence of events
    }
  }

  async #pour(to: Writable): Promise<void> {
    while (this.written < TOTAL) {
      this.written += CHUNK.length;
      if (!to.write(CHUNK)) {
        this.#blocked.resolve();
        await once(to, "drain");
      }
    }
    to.end();
  }
}

async function count(message: AsyncIterable<Buffer>): Promise<number> {
  let bytes = 0;
  for await (const chunk of message) bytes += chunk.length;
  return bytes;
}

test("a download of 200 MB goes no faster than the client reads, and takes little memory", async () => {
  const started = Promise.withResolvers<Source>();
  await using _ = await serveApp(
    vm,
    createServer((_req, res) => started.resolve(new Source(res))),
  );
  const before = process.memoryUsage.rss();
  const request = open(bench, vm, { headers: { ...headers, "Content-Length": "0" } });
  request.end();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  const source = await started.promise;
  await source.stalled();
  expect(source.written).toBeLessThan(IN_FLIGHT);
  expect(await count(message)).toBe(TOTAL);
  await source.done;
  expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 1024 * 1024);
});

test("an upload of 200 MB goes no faster than the app reads, and takes little memory", async () => {
  const arrived = Promise.withResolvers<() => void>();
  await using _ = await serveApp(
    vm,
    createServer((req, res) => {
      arrived.resolve(() => void count(req).then((bytes) => res.end(String(bytes))));
    }),
  );
  const before = process.memoryUsage.rss();
  const request = open(bench, vm, { method: "POST", headers });
  const source = new Source(request);
  const read = await arrived.promise;
  await source.stalled();
  expect(source.written).toBeLessThan(IN_FLIGHT);
  read();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  expect(String((await message.toArray())[0])).toBe(String(TOTAL));
  await source.done;
  expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 1024 * 1024);
});

test("a download over HTTP/2 goes no faster than the client reads, and takes little memory", async () => {
  const started = Promise.withResolvers<Source>();
  await using _ = await serveApp(
    vm,
    createServer((_req, res) => started.resolve(new Source(res))),
  );
  const before = process.memoryUsage.rss();
  const client = await connectHttp2(bench, vm, { settings: { initialWindowSize: 1 << 20 } });
  const { "Content-Length": _length, ...auth } = headers;
  const stream = client.request(auth);
  await once(stream, "response");
  const source = await started.promise;
  await source.stalled();
  expect(source.written).toBeLessThan(IN_FLIGHT);
  expect(await count(stream)).toBe(TOTAL);
  await source.done;
  client.destroy();
  expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 1024 * 1024);
});

test("an upload over HTTP/2 goes no faster than the app reads; another stream of the connection goes on", async () => {
  const arrived = Promise.withResolvers<() => void>();
  await using _ = await serveApp(
    vm,
    createServer((req, res) => {
      if (req.method === "GET") res.end("quick");
      else arrived.resolve(() => void count(req).then((bytes) => res.end(String(bytes))));
    }),
  );
  const before = process.memoryUsage.rss();
  const client = await connectHttp2(bench, vm);
  const { "Content-Length": _length, ...auth } = headers;
  const stream = client.request({ ":method": "POST", ...auth });
  const source = new Source(stream);
  const read = await arrived.promise;
  await source.stalled();
  expect(source.written).toBeLessThan(IN_FLIGHT);
  expect(String((await client.request(auth).toArray())[0])).toBe("quick"); // its window is its own
  read();
  expect(String((await stream.toArray())[0])).toBe(String(TOTAL));
  await source.done;
  client.destroy();
  expect(process.memoryUsage.rss() - before).toBeLessThan(150 * 1024 * 1024);
});
