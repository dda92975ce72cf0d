import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { CompactEncrypt, CompactSign } from "jose";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { ask, type Bench, open, serveApp, startBench, tokenFor } from "./testing/bench.ts";
import { askHttp2, connectHttp2 } from "./testing/http2.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let other: StubMicrovm;
let good: string;
beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  other = bench.gate.add();
  good = await tokenFor(bench, vm);
});

const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const parts = (token: string): string[] => token.split(".");
const header = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(parts(token)[0] ?? "", "base64url").toString());
const withHeader = (more: object): string => [b64({ ...header(good), ...more }), ...parts(good).slice(1)].join(".");
const guessed = Buffer.alloc(32, 7);
const encrypted = (claims: unknown, head: object = {}): Promise<string> =>
  new CompactEncrypt(Buffer.from(JSON.stringify(claims)))
    .setProtectedHeader({ ...header(good), alg: "dir", enc: "A256GCM", ...head })
    .encrypt(guessed);
const everything = () => ({ vm: vm.id, k: "h", p: [[1, 65535]], exp: Date.now() + 60_000 });

const tricks: Record<string, () => string | Promise<string>> = {
  // What is no token of ours by its outside.
  "missing: empty": () => "",
  "missing: truncated by a character": () => good.slice(0, -1),
  "missing: four parts": () => parts(good).slice(0, 4).join("."),
  "missing: six parts": () => `${good}.x`,
  "missing: with an encrypted key": () => good.replace("..", ".AAAA."),
  "missing: alg none": () => withHeader({ alg: "none" }),
  "missing: alg of passwords, for long work": () => withHeader({ alg: "PBES2-HS256+A128KW", p2c: 2 ** 31, p2s: "AA" }),
  "missing: alg of a public key": () => withHeader({ alg: "RSA-OAEP" }),
  "missing: enc A128GCM": () => withHeader({ enc: "A128GCM" }),
  "missing: enc A128CBC-HS256": () => withHeader({ enc: "A128CBC-HS256" }),
  "missing: zip": () => withHeader({ zip: "DEF" }),
  "missing: crit": () => withHeader({ crit: ["exp"], exp: 0 }),
  "missing: a key of its own": () => withHeader({ jwk: { kty: "oct", k: guessed.toString("base64url") } }),
  "missing: an address of keys": () => withHeader({ jku: "http://127.0.0.1/keys" }),
  "missing: a path as kid": () => withHeader({ kid: "../../keys/endpoint-tokens" }),
  "missing: signed only": () => new CompactSign(Buffer.from("{}")).setProtectedHeader({ alg: "HS256" }).sign(guessed),
  "missing: a JSON web token without a signature": () => `${b64({ alg: "none" })}.${b64(everything())}.`,
  // What could be one.
  "failed: another key under our kid": () => encrypted(everything()),
  "failed: an unknown kid": () => encrypted(everything(), { kid: "9a41c6d2-77b0-4e19-a2c8-5d0e6f718293" }),
  "failed: a bit of the ciphertext": () => flipped(3),
  "failed: a bit of the tag": () => flipped(4),
  "failed: a bit of the nonce": () => flipped(2),
  "failed: another microvm's": () => tokenFor(bench, other),
  "failed: another server's": async () => {
    await using server = await startBench();
    server.gate.microvms.push(vm);
    return await tokenFor(server, vm);
  },
  "failed: expired": () => tokenFor(bench, vm, { expiresAt: new Date(Date.now() - 1) }),
  "failed: of a microvm that there is not": () => tokenFor(bench, { ...vm, id: "microvm-x" } as StubMicrovm),
};
const flipped = (part: number): string => {
  const all = parts(good);
  const bytes = Buffer.from(all[part] ?? "", "base64url");
  bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0);
  all[part] = bytes.toString("base64url");
  return all.join(".");
};
const BODY = { missing: "Request missing authentication", failed: "Token authentication failed" };

test.each(Object.keys(tricks))(
  "%s: one answer for all of its kind, to both protocols, and nothing wakes",
  async (name) => {
    const token = await tricks[name]?.();
    const kind = name.split(":")[0] as keyof typeof BODY;
    vm.state = "waking";
    const one = await ask(bench, vm, { headers: { "x-aws-proxy-auth": token ?? "" } });
    expect({ status: one.status, lines: one.rawHeaders, body: one.body }).toEqual({
      status: 403,
      lines: [
        ...["x-aws-proxy-error", "UNAUTHORIZED", "Content-Type", "text/plain", "Content-Length"],
        ...[String(BODY[kind].length), "Connection", "close"],
      ],
      body: BODY[kind],
    });
    const client = await connectHttp2(bench, vm);
    const two = await askHttp2(client, { "x-aws-proxy-auth": token ?? "" });
    expect({ status: two.status, lines: two.rawHeaders, body: two.body }).toEqual({
      status: 403,
      lines: [
        ...[":status", "403", "x-aws-proxy-error", "UNAUTHORIZED", "content-type", "text/plain"],
        ...["content-length", String(BODY[kind].length)],
      ],
      body: BODY[kind],
    });
    client.destroy();
    expect(vm.entered + other.entered).toBe(0);
  },
);

test("whether there is a name is not looked up: the token says whose it is", async () => {
  const find = vi.spyOn(bench.gate, "find");
  const unknown = { label: "9a41c6d2-77b0-4e19-a2c8-5d0e6f718293" };
  const answers = [];
  for (const at of [unknown, other]) answers.push(await ask(bench, at, { headers: { "x-aws-proxy-auth": good } }));
  expect(find.mock.calls).toEqual([[vm.id], [vm.id]]);
  expect(answers[0]).toEqual(answers[1]);
  find.mockRestore();
});

test("a token that ends during a stream does not end the stream; the next request is refused", async () => {
  let send = (_text: string): void => {};
  await using _ = await serveApp(
    vm,
    createServer((_req, res) => {
      res.flushHeaders();
      send = (text) => void res.write(text);
    }),
  );
  const token = await tokenFor(bench, vm, { expiresAt: new Date(Date.now() + 1000) });
  const headers = { "x-aws-proxy-auth": token };
  const request = open(bench, vm, { headers });
  request.on("error", () => {}).end();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  message.on("error", () => {}).setEncoding("utf8");
  await vi.waitFor(async () => expect(await bench.tokens.verify(token)).toBe("invalid"), { timeout: 5000 });
  send("still here");
  expect(await once(message, "data")).toEqual(["still here"]);
  expect((await ask(bench, vm, { headers })).status).toBe(403);
  request.destroy();
});

test("a token outlives suspends and key rotations, and is worth nothing once its microvm is terminated", async () => {
  await using _ = await serveApp(
    vm,
    createServer((_req, res) => res.end("app")),
  );
  const get = async () => {
    const { status, headers } = await ask(bench, vm, { headers: { "x-aws-proxy-auth": good } });
    return [status, headers["x-aws-proxy-error"]];
  };
  for (let i = 0; i < 3; i++) expect(await get()).toEqual([200, undefined]); // as often as one likes
  vm.stop("running");
  await bench.tokens.rotate();
  expect(await get()).toEqual([200, undefined]);
  vm.stop("terminated");
  expect(await get()).toEqual([502, "MICROVM_CONNECT_FAILED"]);
  bench.gate.microvms.splice(bench.gate.microvms.indexOf(vm), 1); // no longer listed
  expect(await get()).toEqual([403, "UNAUTHORIZED"]);
});

test("ports: one, a range, all; and the default is a port like any other", async () => {
  await using _ = await serveApp(
    vm,
    createServer((_req, res) => res.end("app")),
  );
  const app = vm.ports.get(8080) ?? 0;
  for (const port of [1, 80, 9000, 9005, 65535]) vm.ports.set(port, app);
  const status = async (token: string, port?: number): Promise<number> => {
    const headers = { "x-aws-proxy-auth": token, ...(port === undefined ? {} : { "x-aws-proxy-port": String(port) }) };
    return (await ask(bench, vm, { headers })).status;
  };
  const single = await tokenFor(bench, vm, { ports: [{ from: 9000, to: 9000 }] });
  expect([await status(single, 9000), await status(single, 9005), await status(single)]).toEqual([200, 403, 403]);
  const range = await tokenFor(bench, vm, { ports: [{ from: 8080, to: 9005 }] });
  expect([await status(range, 9005), await status(range), await status(range, 80)]).toEqual([200, 200, 403]);
  expect([await status(good, 1), await status(good, 65535), await status(good)]).toEqual([200, 200, 200]);
  expect(await status(good, 9999)).toBe(502); // granted, but nobody listens
});
