import { once } from "node:events";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Bench, hostOf, startBench, tokenFor, until } from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

const text = {
  requestSerialize: (value: string) => Buffer.from(value),
  requestDeserialize: (bytes: Buffer) => bytes.toString(),
  responseSerialize: (value: string) => Buffer.from(value),
  responseDeserialize: (bytes: Buffer) => bytes.toString(),
};
const method = (path: string, requestStream: boolean, responseStream: boolean) => ({
  ...{ path: `/test.Echo/${path}`, requestStream, responseStream },
  ...text,
});
const ECHO = {
  unary: method("Unary", false, false),
  down: method("Down", false, true),
  up: method("Up", true, false),
  both: method("Both", true, true),
} satisfies grpc.ServiceDefinition;
const EchoClient = grpc.makeClientConstructor(ECHO, "Echo");

let bench: Bench;
let vm: StubMicrovm;
let app: grpc.Server;
let token: string;
let cancelled: Promise<void>;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  token = await tokenFor(bench, vm);
  const seen = Promise.withResolvers<void>();
  cancelled = seen.promise;
  app = new grpc.Server();
  app.addService(ECHO, {
    unary: (call: grpc.ServerUnaryCall<string, string>, reply: grpc.sendUnaryData<string>) => {
      if (call.request === "fail") return reply({ code: grpc.status.NOT_FOUND, details: "not here: ü" });
      const trailer = new grpc.Metadata();
      trailer.set("x-trailer", "t");
      trailer.set("x-ours", String(call.metadata.getMap()["x-aws-proxy-auth"]));
      reply(null, `${call.request}!`, trailer);
    },
    down: (call: grpc.ServerWritableStream<string, string>) => {
      call.on("cancelled", seen.resolve);
      call.write("first");
      if (call.request === "for ever") return;
      for (let i = 0; i < 100; i++) call.write(String(i));
      call.end();
    },
    up: (call: grpc.ServerReadableStream<string, string>, reply: grpc.sendUnaryData<string>) => {
      let sum = 0;
      call.on("data", (value: string) => {
        sum += Number(value);
      });
      call.on("end", () => reply(null, String(sum)));
    },
    both: (call: grpc.ServerDuplexStream<string, string>) => {
      call.on("data", (value: string) => call.write(`${value}!`));
      call.on("end", () => call.end());
    },
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  app.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (err, port) =>
    err === null ? resolve(port) : reject(err),
  );
  vm.ports.set(8080, await promise);
  return async () => {
    app.forceShutdown();
    await until(vm, "left", () => vm.left === vm.entered);
  };
});

function client(more: Record<string, string> = {}) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries({ "x-aws-proxy-auth": token, ...more })) metadata.set(name, value);
  const echo = new EchoClient(
    `127.0.0.1:${bench.server.address.port}`,
    grpc.credentials.createSsl(Buffer.from(bench.ca)),
    {
      "grpc.ssl_target_name_override": hostOf(vm),
      "grpc.default_authority": hostOf(vm),
    },
  );
  return { echo, metadata, [Symbol.dispose]: () => echo.close() };
}
// biome-ignore lint/suspicious/noExplicitAny: the library's generic clients have no types for their methods
type Any = any;

test.each([{}, { "x-aws-proxy-force-h2": "true" }])("calls of all four kinds, with %o", async (more) => {
  using it = client(more);
  const echo = it.echo as Any;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const call: grpc.ClientUnaryCall = echo.unary("hello", it.metadata, (err: Error | null, value: string) =>
    err ? reject(err) : resolve(value),
  );
  const status = once(call, "status");
  expect(await promise).toBe("hello!");
  const [{ code, metadata }] = (await status) as [grpc.StatusObject];
  expect(code).toBe(grpc.status.OK);
  expect(metadata.getMap()).toMatchObject({ "x-trailer": "t", "x-ours": "undefined" });

  const down: string[] = await echo.down("go", it.metadata).toArray();
  expect(down).toEqual(["first", ...Array.from({ length: 100 }, (_, i) => String(i))]);

  const sum = Promise.withResolvers<string>();
  const up = echo.up(it.metadata, (err: Error | null, value: string) => (err ? sum.reject(err) : sum.resolve(value)));
  for (let i = 1; i <= 100; i++) up.write(String(i));
  up.end();
  expect(await sum.promise).toBe("5050");

  const both = echo.both(it.metadata);
  for (let i = 0; i < 10; i++) {
    both.write(String(i));
    expect(await once(both, "data")).toEqual([`${i}!`]);
  }
  both.end();
  both.resume();
  await once(both, "end");
});

const failure = (it: ReturnType<typeof client>, request: string): Promise<grpc.ServiceError> =>
  new Promise((resolve) => {
    (it.echo as Any).unary(request, it.metadata, (err: grpc.ServiceError) => resolve(err));
  });

test("an app's own status reaches the client, and so do the endpoint's refusals", async () => {
  using good = client();
  expect(await failure(good, "fail")).toMatchObject({ code: grpc.status.NOT_FOUND, details: "not here: ü" });
  using bad = client({ "x-aws-proxy-auth": "none" });
  expect((await failure(bad, "x")).code).toBe(grpc.status.PERMISSION_DENIED); // 403
  vm.ports.set(8080, 1);
  using nobody = client();
  expect((await failure(nobody, "x")).code).toBe(grpc.status.UNAVAILABLE); // 502
});

test("a cancelled call is cancelled at the app", async () => {
  using it = client();
  const call = (it.echo as Any).down("for ever", it.metadata);
  call.on("error", () => {});
  await once(call, "data");
  call.cancel();
  await cancelled;
});

test("an app that dies in the middle of a call is no success", async () => {
  using it = client();
  const call = (it.echo as Any).down("for ever", it.metadata);
  const failed = once(call, "error");
  failed.catch(() => {});
  await once(call, "data");
  app.forceShutdown();
  await expect(once(call, "status")).rejects.toMatchObject({ code: expect.any(Number) });
});
