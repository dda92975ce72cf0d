import { createServer as createHttp1, type RequestOptions } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { Agent } from "node:https";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ask, type Bench, open, portOf, startBench, tokenFor, until } from "./testing/bench.ts";
import { askHttp2, connectHttp2 } from "./testing/http2.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

/** What an app does with a request, by its path; the same in HTTP/1.1 and HTTP/2. */
const APP = ["whole", "empty", "early", "cut-head", "cut-body", "never", "slow"] as const;
/** When a client goes away, if it does. */
const CLIENT = ["stays", "goes at once", "goes after the head", "goes after a chunk"] as const;
const CHUNK = Buffer.alloc(20_000, "x");

interface Reply {
  head(status: number): void;
  write(chunk: Buffer): void;
  end(): void;
  cut(): void;
}

function behave(path: string, onBody: (then: () => void) => void, reply: Reply): void {
  const whole = (): void => {
    reply.head(200);
    reply.write(CHUNK);
    reply.end();
  };
  if (path === "/whole") onBody(whole);
  else if (path === "/early") whole();
  else if (path === "/empty") {
    reply.head(204);
    reply.end();
  } else if (path === "/cut-head") reply.cut();
  else if (path === "/cut-body" || path === "/slow") {
    reply.head(200);
    reply.write(CHUNK);
    setImmediate(() => (path === "/slow" ? reply.end() : reply.cut()));
  }
}

async function startApps(vm: StubMicrovm): Promise<void> {
  const one = createHttp1((req, res) => {
    req.on("error", () => {});
    behave(req.url ?? "", (then) => req.resume().on("end", then), {
      head: (status) => void res.writeHead(status),
      write: (chunk) => void res.write(chunk),
      end: () => void res.end(),
      cut: () => void req.socket.destroy(),
    });
  });
  const two = createHttp2();
  two.on("sessionError", () => {});
  two.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const unlessGone =
      <T extends unknown[]>(act: (...args: T) => unknown) =>
      (...args: T): void => {
        if (!stream.destroyed && !stream.closed) act(...args);
      };
    behave(String(headers[":path"]), (then) => stream.resume().on("end", then), {
      head: unlessGone((status: number) => stream.respond({ ":status": status })),
      write: unlessGone((chunk: Buffer) => stream.write(chunk)),
      end: unlessGone(() => stream.end()),
      cut: () => void stream.destroy(new Error("cut")),
    });
  });
  for (const [port, app] of [
    [8080, one],
    [8081, two],
  ] as const) {
    await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
    vm.ports.set(port, portOf(app));
  }
}

interface Exchange {
  readonly client: 1 | 2;
  readonly app: 1 | 2;
  readonly path: (typeof APP)[number];
  readonly upload: boolean;
  readonly leaves: (typeof CLIENT)[number];
}
const exchanges = fc.array(
  fc.record<Exchange>({
    client: fc.constantFrom(1, 2),
    app: fc.constantFrom(1, 2),
    path: fc.constantFrom(...APP),
    upload: fc.boolean(),
    leaves: fc.constantFrom(...CLIENT),
  }),
  { minLength: 1, maxLength: 25 },
);

test("whatever apps and clients do, every visit is left, every stream closed, and the next request served", async () => {
  await using bench = await startBench({ maxConnectionsPerMicrovm: 40 });
  const vm = bench.gate.add();
  await startApps(vm);
  const token = await tokenFor(bench, vm);
  await fc.assert(
    fc.asyncProperty(exchanges, async (all) => {
      const client = await connectHttp2(bench, vm);
      const agent = new Agent({ keepAlive: true, maxSockets: 3 });
      const forced = { "x-aws-proxy-force-h2": "true", "x-aws-proxy-port": "8081" };
      const headersOf = ({ app }: Exchange) => ({ "x-aws-proxy-auth": token, ...(app === 2 ? forced : {}) });
      const done = all.map((one) =>
        one.client === 2
          ? overHttp2(client, one, headersOf(one))
          : overHttp1(bench, vm, one, { agent, headers: headersOf(one) }),
      );
      const ends = await Promise.all(done);
      for (const [i, { path, leaves, app, client: of, upload }] of all.entries())
        if (leaves === "stays" && (path === "whole" || path === "empty" || path === "slow")) {
          const what = `${path} by HTTP/${app}, asked by HTTP/${of}${upload ? " with a body" : ""}`;
          expect(ends[i], what).toBe(path === "empty" ? "204 0" : `200 ${CHUNK.length}`);
        }
      client.destroy();
      agent.destroy();
      await until(vm, "left", () => vm.left === vm.entered);
      await until(vm, "streamClosed", () => vm.streams.size === 0);
    }),
    { numRuns: 40 },
  );
  const last = await ask(bench, vm, { path: "/whole", headers: { "x-aws-proxy-auth": token } });
  expect(last.body.length).toBe(CHUNK.length);
}, 60_000);

/** How it ended: status and bytes, as far as they came. */
async function overHttp2(
  client: Awaited<ReturnType<typeof connectHttp2>>,
  { path, upload, leaves }: Exchange,
  headers: Record<string, string>,
): Promise<string> {
  const lines = { ":path": `/${path}`, ":method": upload ? "POST" : "GET", ...headers };
  if (leaves === "stays" && path !== "never") {
    const { status, body } = await askHttp2(client, lines, upload ? CHUNK : undefined);
    return `${status} ${body.length}`;
  }
  const cancel = new AbortController();
  const stream = client.request(lines, { signal: cancel.signal, endStream: !upload });
  stream.on("error", () => {});
  const closed = new Promise((resolve) => stream.once("close", resolve));
  if (upload) stream.write(CHUNK);
  if (leaves === "goes after a chunk") stream.once("data", () => cancel.abort());
  else if (leaves === "goes after the head") stream.once("response", () => cancel.abort());
  if (leaves.startsWith("goes at") || path === "never" || path.startsWith("cut") || path === "empty" || upload)
    setImmediate(() => cancel.abort());
  stream.resume();
  await closed;
  return "left";
}

async function overHttp1(
  bench: Bench,
  vm: StubMicrovm,
  { path, upload, leaves }: Exchange,
  options: RequestOptions & { agent: Agent },
): Promise<string> {
  const request = open(bench, vm, { path: `/${path}`, method: upload ? "POST" : "GET", ...options });
  const { promise, resolve } = Promise.withResolvers<string>();
  let status = 0;
  let bytes = 0;
  request.on("error", () => resolve("failed")).on("close", () => resolve(`${status} ${bytes}`));
  request.on("response", (message) => {
    status = message.statusCode ?? 0;
    message.on("error", () => {});
    if (leaves === "goes after the head") request.destroy();
    message.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (leaves === "goes after a chunk") request.destroy();
    });
    message.on("end", () => resolve(`${status} ${bytes}`));
  });
  if (upload) request.end(CHUNK);
  else request.end();
  if (leaves === "goes at once" || path === "never")
    request.once("socket", () => setImmediate(() => request.destroy()));
  return await promise;
}
