import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { CompactEncrypt, CompactSign } from "jose";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Clock } from "../../lib/clock.ts";
import { TorporError } from "../../lib/errors.ts";
import { createLog } from "../../lib/log.ts";
import { KnownTokens } from "./known-tokens.ts";
import type { TokenClaims } from "./token.ts";
import { MAX_TOKEN_LENGTH, openTokenService, type RotatingTokenService } from "./token-service.ts";

const log = createLog("silent");
const MINUTE = 60_000;

class SteppedClock implements Clock {
  time = Date.parse("2026-11-01T12:00:00Z");
  now(): number {
    return this.time;
  }
  monotonic(): number {
    return this.time;
  }
  timer: (() => void) | undefined;
  after(_ms: number, callback: () => void): () => void {
    this.timer = callback;
    return () => {
      this.timer = undefined;
    };
  }
}

let dir: string;
let keyFile: string;
let clock: SteppedClock;
let tokens: RotatingTokenService;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-token-"));
  keyFile = join(dir, "keys", "tokens.json");
  clock = new SteppedClock();
  tokens = await openTokenService(keyFile, clock, log);
});
afterEach(() => rm(dir, { recursive: true }));

const claims = (more: Partial<TokenClaims> = {}): TokenClaims => ({
  microvmId: "microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60",
  kind: "http",
  ports: [{ from: 8080, to: 8080 }],
  expiresAt: new Date(clock.time + 30 * MINUTE),
  ...more,
});
const ring = async (): Promise<{ keys: { id: string; secret: string }[] }> =>
  JSON.parse(await readFile(keyFile, "utf8"));
const encodeHeader = (header: unknown): string => Buffer.from(JSON.stringify(header)).toString("base64url");

test("a token says what was put into it", async () => {
  const http = claims({
    ports: [
      { from: 1, to: 65535 },
      { from: 80, to: 80 },
    ],
  });
  expect(await tokens.verify(await tokens.mint(http))).toEqual(http);
  const shell = claims({ kind: "shell", ports: [] });
  expect(await tokens.verify(await tokens.mint(shell))).toEqual(shell);
});

test("a token is a JWE of five parts with the service's header", async () => {
  const parts = (await tokens.mint(claims())).split(".");
  expect(parts).toHaveLength(5);
  expect(parts[1]).toBe("");
  const header = Buffer.from(parts[0]!, "base64url").toString();
  expect(header).toMatch(/^\{"kid":"[0-9a-f-]{36}","alg":"dir","enc":"A256GCM"\}$/);
});

test("a token ends at its expiry to the millisecond", async () => {
  const token = await tokens.mint(claims({ expiresAt: new Date(clock.time + 5) }));
  clock.time += 4;
  expect(await tokens.verify(token)).toMatchObject({ kind: "http" });
  clock.time += 1;
  expect(await tokens.verify(token)).toBe("invalid");
});

test("a change of any character makes a token worthless", async () => {
  const token = await tokens.mint(claims());
  for (let i = 0; i < token.length; i++) {
    if (token[i] === ".") continue;
    const other = token[i] === "A" ? "B" : "A";
    expect(typeof (await tokens.verify(token.slice(0, i) + other + token.slice(i + 1)))).toBe("string");
  }
});

test("the spare bits of the last character count as well", async () => {
  const token = await tokens.mint(claims());
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const others = [...alphabet].filter((c) => c !== token.at(-1)).map((c) => token.slice(0, -1) + c);
  for (const other of others) expect(await tokens.verify(other)).toBe("invalid");
});

test("what is no token at all is garbled", async () => {
  const token = await tokens.mint(claims());
  const [header, , iv, text, tag] = token.split(".");
  for (const value of [
    "",
    "x",
    "....",
    "Bearer abc",
    token.slice(1),
    `${token}.`,
    ` ${token}`,
    `${token}\n`,
    token.replace("..", ".x."),
    `${header}.${iv}.${text}.${tag}`,
    `${header}..${iv}.${text}.${tag?.slice(1)}`,
    `${header}..${iv}..${tag}`,
    token.replaceAll(".", "!"),
    "a".repeat(MAX_TOKEN_LENGTH + 1),
    `${"e".repeat(1 << 20)}..${iv}.${text}.${tag}`,
  ])
    expect(await tokens.verify(value), JSON.stringify(value.slice(0, 60))).toBe("garbled");
});

test("only our own header is looked at: no other algorithm, no compression, no extensions", async () => {
  const token = await tokens.mint(claims());
  const rest = token.slice(token.indexOf("."));
  const kid = (await ring()).keys[0]!.id;
  for (const header of [
    { alg: "dir", enc: "A256GCM" },
    { kid, alg: "none", enc: "A256GCM" },
    { kid, alg: "dir", enc: "A128GCM" },
    { kid, alg: "dir", enc: "A128CBC-HS256" },
    { kid, alg: "PBES2-HS512+A256KW", enc: "A256GCM", p2c: 2_000_000_000, p2s: "AAAA" },
    { kid, alg: "dir", enc: "A256GCM", zip: "DEF" },
    { kid, alg: "dir", enc: "A256GCM", crit: ["exp"], exp: 1 },
    { kid: "../../etc/passwd", alg: "dir", enc: "A256GCM" },
    { kid: [kid], alg: "dir", enc: "A256GCM" },
    [kid],
    null,
    7,
  ])
    expect(await tokens.verify(encodeHeader(header) + rest), JSON.stringify(header)).toBe("garbled");
});

test("a signed token, even with our key, is no token", async () => {
  const { keys } = await ring();
  const secret = Buffer.from(keys[0]!.secret, "base64url");
  const jws = await new CompactSign(Buffer.from("{}")).setProtectedHeader({ alg: "HS256" }).sign(secret);
  expect(await tokens.verify(jws)).toBe("garbled");
});

test("tokens of an unknown key and of another server are invalid", async () => {
  const other = await openTokenService(join(dir, "other.json"), clock, log);
  expect(await tokens.verify(await other.mint(claims()))).toBe("invalid");
});

test("our key around other content is invalid", async () => {
  const { id, secret } = (await ring()).keys[0]!;
  for (const content of [
    "",
    "null",
    "[]",
    "not json",
    "{}",
    '{"vm":"m","k":"x","p":[],"exp":9999999999999}',
    '{"vm":"","k":"h","p":[],"exp":9999999999999}',
    '{"vm":"m","k":"h","p":[[0,1]],"exp":9999999999999}',
    '{"vm":"m","k":"h","p":[[2,1]],"exp":9999999999999}',
    '{"vm":"m","k":"h","p":[[1,65536]],"exp":9999999999999}',
    '{"vm":"m","k":"h","p":"all","exp":9999999999999}',
    '{"vm":"m","k":"h","p":[],"exp":"tomorrow"}',
    '{"vm":"m","k":"h","p":[],"exp":1e300}',
  ]) {
    const token = await new CompactEncrypt(Buffer.from(content))
      .setProtectedHeader({ kid: id, alg: "dir", enc: "A256GCM" })
      .encrypt(Buffer.from(secret, "base64url"));
    if (content === "") expect(await tokens.verify(token)).toBe("garbled");
    else expect(await tokens.verify(token), content).toBe("invalid");
  }
});

test("hostile values never throw and never pass", async () => {
  const token = await tokens.mint(claims());
  const nearly = fc.tuple(fc.nat(token.length), fc.nat(8), fc.string({ maxLength: 8 })).map(([at, cut, put]) => {
    return token.slice(0, at) + put + token.slice(at + cut);
  });
  const shaped = fc
    .tuple(...[60, 0, 12, 40, 16].map((n) => fc.uint8Array({ minLength: n, maxLength: n })))
    .map((parts) => parts.map((part) => Buffer.from(part).toString("base64url")).join("."));
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.string({ unit: "binary" }), nearly, shaped), async (value) => {
      if (value === token) return;
      expect(["garbled", "invalid"]).toContain(await tokens.verify(value));
    }),
    { numRuns: 3000 },
  );
});

test("any sound claims survive the way through a token", async () => {
  const port = fc.integer({ min: 1, max: 65535 });
  const range = fc.tuple(port, port).map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) }));
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1 }), fc.array(range, { maxLength: 50 }), async (microvmId, ports) => {
      // Lone surrogates have no UTF-8 form; ids do not hold any.
      fc.pre(microvmId.isWellFormed());
      const said = claims({ microvmId, ports });
      expect(await tokens.verify(await tokens.mint(said))).toEqual(said);
    }),
    { numRuns: 200 },
  );
});

test("unsound claims and endless port lists are not minted", async () => {
  const endless = Array.from({ length: 1000 }, (_, i) => ({ from: i + 1, to: i + 1 }));
  for (const bad of [
    claims({ microvmId: "" }),
    claims({ ports: [{ from: 0, to: 1 }] }),
    claims({ ports: [{ from: 9, to: 8 }] }),
    claims({ expiresAt: new Date(Number.NaN) }),
    claims({ kind: "shell" }),
    claims({ ports: endless }),
  ])
    await expect(tokens.mint(bad)).rejects.toMatchObject({ kind: "invalid_input" });
});

test("a token that was good is not good for longer because it is known", async () => {
  const short = claims({ expiresAt: new Date(clock.time + MINUTE) });
  const token = await tokens.mint(short);
  for (let n = 0; n < 3; n++) expect(await tokens.verify(token)).toEqual(short);
  clock.time += MINUTE;
  for (let n = 0; n < 2; n++) expect(await tokens.verify(token)).toBe("invalid");
});

test("a known token with any character changed is another one", async () => {
  const token = await tokens.mint(claims());
  expect(await tokens.verify(token)).toEqual(claims());
  await fc.assert(
    fc.asyncProperty(fc.nat(token.length - 1), fc.constantFrom("A", "Q", "_", "."), async (at, other) => {
      fc.pre(token[at] !== other);
      const changed = token.slice(0, at) + other + token.slice(at + 1);
      expect(["garbled", "invalid"]).toContain(await tokens.verify(changed));
    }),
  );
  expect(await tokens.verify(token)).toEqual(claims());
});

test("a known token ends with its key", async () => {
  const token = await tokens.mint(claims({ expiresAt: new Date(clock.time + 7 * 24 * 60 * MINUTE) }));
  expect(await tokens.verify(token)).toMatchObject({ kind: "http" });
  await tokens.rotate();
  expect(await tokens.verify(token)).toMatchObject({ kind: "http" });
  clock.time += 3 * 60 * MINUTE;
  await tokens.rotate(); // the first key's time is over
  expect(await tokens.verify(token)).toBe("invalid");
});

test("more tokens than are remembered are all good", async () => {
  const known = new KnownTokens(2);
  for (const token of ["a", "b", "c"]) known.add(token, claims({ microvmId: token }));
  expect(["a", "b", "c"].map((token) => known.get(token)?.microvmId)).toEqual([undefined, "b", "c"]);
});

test("the key file is private and outlives a restart", async () => {
  expect((await stat(keyFile)).mode & 0o777).toBe(0o600);
  const token = await tokens.mint(claims());
  const reopened = await openTokenService(keyFile, clock, log);
  expect(await reopened.verify(token)).toEqual(claims());
});

test("after a rotation new tokens name the new key and old ones stay valid", async () => {
  const old = await tokens.mint(claims());
  await tokens.rotate();
  const fresh = await tokens.mint(claims());
  expect(fresh.split(".")[0]).not.toBe(old.split(".")[0]);
  const reopened = await openTokenService(keyFile, clock, log);
  for (const service of [tokens, reopened])
    for (const token of [old, fresh]) expect(await service.verify(token)).toEqual(claims());
});

test("a rotation drops keys whose tokens have all ended", async () => {
  const first = (await ring()).keys[0]!.id;
  clock.time += 24 * 60 * MINUTE;
  await tokens.rotate();
  expect((await ring()).keys.map((key) => key.id)).toContain(first); // retired just now
  clock.time += 24 * 60 * MINUTE;
  await tokens.rotate();
  expect((await ring()).keys).toHaveLength(2);
  expect((await ring()).keys.map((key) => key.id)).not.toContain(first);
});

test("keys are rotated by age, and old ones verify until their tokens have ended", async () => {
  const ids = async (): Promise<string[]> => (await ring()).keys.map(({ id }) => id);
  const [first = ""] = await ids();
  const pass = async (minutes: number): Promise<void> => {
    clock.time += minutes * MINUTE;
    const { timer } = clock;
    clock.timer = undefined;
    timer?.();
    await vi.waitFor(() => expect(clock.timer).toBeDefined()); // it has looked, and will look again
  };
  await pass(23 * 60);
  expect(await ids()).toEqual([first]);
  const late = claims({ expiresAt: new Date(clock.time + 60 * MINUTE) });
  const token = await tokens.mint(late);
  await pass(60 - 1);
  expect(await tokens.verify(token)).toEqual(late);
  await pass(1);
  expect(await tokens.verify(token)).toBe("invalid"); // its own end, not its key's
  const [kept, second] = await ids();
  expect(kept).toBe(first);
  const again = claims({ expiresAt: new Date(clock.time + 60 * MINUTE) });
  const next = await tokens.mint(again);
  expect(JSON.parse(Buffer.from(next.split(".")[0] ?? "", "base64url").toString())).toMatchObject({ kid: second });
  await pass(24 * 60);
  expect(await ids()).toEqual([second, expect.any(String)]);
  tokens[Symbol.dispose]();
  expect(clock.timer).toBeUndefined();
});

test("a key that became old while no server ran is rotated at the start", async () => {
  const token = await tokens.mint(claims({ expiresAt: new Date(clock.time + 25 * 60 * MINUTE) }));
  tokens[Symbol.dispose]();
  clock.time += 24 * 60 * MINUTE;
  using reopened = await openTokenService(keyFile, clock, log);
  expect((await ring()).keys).toHaveLength(2);
  expect(await reopened.verify(token)).toMatchObject({ kind: "http" });
});

test("a clock that was wrong does not keep a key for ever; one that steps does not end tokens before their time", async () => {
  const token = await tokens.mint(claims());
  clock.time -= 10 * MINUTE;
  expect(await tokens.verify(token)).toMatchObject({ kind: "http" });
  clock.time += 39 * MINUTE;
  expect(await tokens.verify(token)).toMatchObject({ kind: "http" });
  clock.time += MINUTE;
  expect(await tokens.verify(token)).toBe("invalid");
  clock.time -= 365 * 24 * 60 * MINUTE; // the keys are from a year ahead
  using reopened = await openTokenService(keyFile, clock, log);
  expect((await ring()).keys).toHaveLength(2);
  expect(await reopened.verify(await reopened.mint(claims()))).toMatchObject({ kind: "http" });
});

test("a rotation that cannot be written down leaves the old key in use, and is tried again", async () => {
  await rm(keyFile);
  await mkdir(keyFile); // nothing can take its place
  clock.time += 24 * 60 * MINUTE;
  const { timer } = clock;
  clock.timer = undefined;
  timer?.();
  await vi.waitFor(() => expect(clock.timer).toBeDefined());
  expect(await tokens.verify(await tokens.mint(claims()))).toMatchObject({ kind: "http" });
});

test("a damaged or readable key file is refused with its name, not replaced and not quoted", async () => {
  const good = await readFile(keyFile, "utf8");
  const secret = (await ring()).keys[0]!.secret;
  for (const text of ["", "{", good.slice(0, -20), good.replace(secret, secret.slice(1)), '{"version":2,"keys":[]}']) {
    await writeFile(keyFile, text);
    const failure = await openTokenService(keyFile, clock, log).catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(TorporError);
    expect(String(failure)).toContain(keyFile);
    expect(String(failure)).not.toContain(secret.slice(5, 20));
    expect(await readFile(keyFile, "utf8")).toBe(text);
  }
  await writeFile(keyFile, good);
  await chmod(keyFile, 0o640);
  await expect(openTokenService(keyFile, clock, log)).rejects.toThrow(/mode 0640.*chmod 600/);
});
