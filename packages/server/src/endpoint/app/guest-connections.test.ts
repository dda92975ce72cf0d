import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { Agent as HttpsAgent } from "node:https";
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
} from "../testing/bench.ts";
import { askHttp2, connectHttp2 } from "../testing/http2.ts";
import type { StubMicrovm } from "../testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let agent: HttpsAgent;
let headers: Record<string, string>;
beforeAll(async () => {
  bench = await startBench({ keptConnectionMs: 10_000 });
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  headers = { "x-aws-proxy-auth": await tokenFor(bench, vm) };
  agent = new HttpsAgent({ keepAlive: true, maxSockets: 1 });
  // All that a client's connection has kept ends with it.
  return async () => {
    agent.destroy();
    await until(vm, "streamClosed", () => vm.streams.size === 0);
    expect(vm.left).toBe(vm.entered);
  };
});

/** An app that answers with how many connections it has had so far. */
async function countingApp(listener?: RequestListener): Promise<AsyncDisposable & { readonly sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer((req, res) => {
    if (listener) listener(req, res);
    else req.resume().on("end", () => res.setHeader("Content-Length", 1).end(String(sockets.length)));
  });
  server.on("connection", (socket) => sockets.push(socket));
  const app = await serveApp(vm, server);
  return { sockets, [Symbol.asyncDispose]: () => app[Symbol.asyncDispose]() };
}
const get = async (more: object = {}, body?: string): Promise<string> => {
  const answer = await ask(bench, vm, { headers, agent, ...more }, body);
  return `${answer.status} ${answer.body}`;
};

test("requests of one client connection use one connection to the app", async () => {
  await using _ = await countingApp();
  for (let i = 0; i < 3; i++) expect(await get()).toBe("200 1");
  expect(await get({ method: "HEAD" })).toBe("200 ");
  expect(await get()).toBe("200 1");
  expect(vm.entered).toBe(5); // each of them has been let in
});

test("pipelined requests reach the app one by one, over one connection", async () => {
  let busy = 0;
  const seen: (string | undefined)[] = [];
  await using app = await countingApp((req, res) => {
    expect(++busy).toBe(1);
    seen.push(req.url);
    req.resume().on("end", () =>
      setImmediate(() => {
        busy--;
        res.end("app");
      }),
    );
  });
  const one = (path: string, more = ""): string =>
    `GET ${path} HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${headers["x-aws-proxy-auth"]}\r\n${more}\r\n`;
  const socket = await connectRaw(bench, hostOf(vm));
  socket.write(`${one("/1")}${one("/2")}${one("/3", "Connection: close\r\n")}`);
  expect((await readAll(socket)).match(/HTTP\/1.1 200 OK/g)).toHaveLength(3);
  expect(seen).toEqual(["/1", "/2", "/3"]);
  expect(app.sockets).toHaveLength(1);
});

test("no more than so many requests wait behind one", async () => {
  await using strict = await startBench({ maxPipelined: 2 });
  strict.gate.microvms.push(vm);
  await using _ = await countingApp(() => {});
  const one = `GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${await tokenFor(strict, vm)}\r\n\r\n`;
  const socket = await connectRaw(strict, hostOf(vm));
  socket.write(one.repeat(3));
  expect(await readAll(socket)).toBe("");
});

test("what cannot be sent twice gets a connection of its own, and the kept one ends for it", async () => {
  await using _ = await countingApp();
  expect(await get()).toBe("200 1");
  expect(await get({ method: "DELETE" })).toBe("200 2");
  expect(vm.streams.size).toBe(1); // an app that serves one connection at a time is not kept waiting
  expect(await get({ method: "POST", headers: { ...headers, "Content-Length": 5 } }, "hello")).toBe("200 3");
  expect(await get({ headers: { ...headers, "Content-Length": 5 } }, "hello")).toBe("200 4");
  expect(await get()).toBe("200 4");
  expect(vm.streams.size).toBe(1);
});

test("no client gets another's connection", async () => {
  await using _ = await countingApp();
  expect(await get()).toBe("200 1");
  const other = new HttpsAgent({ keepAlive: true, maxSockets: 1 });
  expect(await get({ agent: other })).toBe("200 2");
  other.destroy();
  await until(vm, "streamClosed", () => vm.streams.size === 1);
});

test("requests of an HTTP/2 connection use several, and keep a few of them", async () => {
  await using app = await countingApp();
  const client = await connectHttp2(bench, vm);
  const all = (): Promise<unknown> => Promise.all(Array.from({ length: 20 }, () => askHttp2(client, headers)));
  await all();
  expect(app.sockets.length).toBeLessThanOrEqual(20);
  await until(vm, "streamClosed", () => vm.streams.size <= 8);
  const before = app.sockets.length;
  await all();
  expect(app.sockets.length - before).toBeLessThanOrEqual(20 - Math.min(8, before));
  client.destroy();
});

test("another port, and another microvm, is another connection", async () => {
  await using app = await countingApp();
  vm.ports.set(9000, vm.ports.get(8080) ?? 0);
  expect(await get()).toBe("200 1");
  expect(await get({ headers: { ...headers, "X-aws-proxy-port": "9000" } })).toBe("200 2");
  expect(await get()).toBe("200 2");
  expect(app.sockets).toHaveLength(2);
});

test("a kept connection that the app has ended is replaced without a word", async () => {
  await using app = await countingApp();
  expect(await get()).toBe("200 1");
  const ended = once(vm, "streamClosed");
  app.sockets[0]?.end();
  await ended;
  expect(await get()).toBe("200 2");
});

test("an app that takes a second request and then ends the connection is asked once more", async () => {
  const requests: number[] = [];
  await using app = await countingApp((req, res) => {
    requests.push(app.sockets.length);
    if (requests.length === 2) req.socket.destroy();
    else res.end("app");
  });
  expect(await get()).toBe("200 app");
  expect(await get()).toBe("200 app");
  expect(requests).toEqual([1, 1, 2]);
});

test("an app that ends every connection without an answer is not asked for ever", async () => {
  let requests = 0;
  await using _ = await countingApp((req, res) => {
    if (++requests === 1) res.end("app");
    else req.socket.destroy();
  });
  expect(await get()).toBe("200 app");
  expect(await get()).toBe("502 ");
  expect(requests).toBe(3);
});

test("bytes that nobody asked for end the connection and reach nobody", async () => {
  const evil = "HTTP/1.1 200 EVIL\r\nContent-Length: 4\r\n\r\nevil";
  const apps: Socket[] = [];
  await using _ = await serveApp(
    vm,
    createTcpServer((socket) => {
      apps.push(socket);
      socket.on("error", () => {});
      socket.on("data", () => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood`));
    }),
  );
  expect(await get()).toBe("200 good");
  const ended = once(vm, "streamClosed");
  apps[0]?.write(evil);
  await ended;
  expect(await get()).toBe("200 good");
  expect(apps).toHaveLength(2);
});

test("an app that says it closes, and one of HTTP/1.0, is believed", async () => {
  const answers = ["HTTP/1.1 200 OK\r\nConnection: close\r\n", "HTTP/1.0 200 OK\r\n"];
  for (const answer of answers) {
    let connections = 0;
    await using _ = await serveApp(
      vm,
      createTcpServer((socket) => {
        connections++;
        socket.on("error", () => {});
        socket.on("data", () => socket.write(`${answer}Content-Length: 1\r\n\r\n${connections}`));
      }),
    );
    expect([await get(), await get()]).toEqual(["200 1", "200 2"]);
  }
});

test("kept connections end when the microvm leaves RUNNING, and after a while", async () => {
  await using _ = await countingApp();
  expect(await get()).toBe("200 1");
  vm.stop("running");
  await until(vm, "streamClosed", () => vm.streams.size === 0);
  expect(await get()).toBe("200 2");
  await using hasty = await startBench({ keptConnectionMs: 20 });
  hasty.gate.microvms.push(vm);
  const own = { headers: { "x-aws-proxy-auth": await tokenFor(hasty, vm) }, agent };
  agent.destroy();
  expect((await ask(hasty, vm, own)).body).toBe("3");
  await until(vm, "streamClosed", () => vm.streams.size === 0);
});

test("a stream to the guest need not be a socket", async () => {
  vm.distant = true;
  await using _ = await countingApp();
  for (let i = 0; i < 3; i++) expect(await get()).toBe("200 1");
});
