import { readFile, stat } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import type { StoredAccessKey } from "../../store/access-keys.ts";
import { temporaryFolder, temporaryStore } from "../../store/testing.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import { newTokenKey } from "../token/key-ring.ts";
import { credentialsPath, writeCredentials } from "./credentials-file.ts";
import { Keys } from "./keys.ts";
import { Sealer } from "./sealer.ts";

const ACCOUNT = "000000000000";

async function setUp() {
  const { accessKeys: rows, accounts } = await temporaryStore();
  const clock = new FakeClock();
  for (const id of [ACCOUNT, "111122223333"])
    await accounts.insert({ id, name: null, enabled: true, createdAt: new Date(clock.now()) });
  const sealer = new Sealer([newTokenKey(clock)]);
  const open = (other = sealer) => new Keys({ rows, sealer: other, clock, log: createLog("silent") });
  return { rows, accounts, clock, sealer, keys: open(), open };
}

const row = (clock: FakeClock, more: Partial<StoredAccessKey> = {}): StoredAccessKey => ({
  accessKeyId: "AKIAAAAAAAAAAAAAAAAA",
  secret: { text: "a secret of an earlier version", sealedWith: null },
  accountId: ACCOUNT,
  name: "root",
  principalArn: `arn:aws:iam::${ACCOUNT}:root`,
  policy: null,
  enabled: true,
  expiresAt: null,
  lastUsedAt: null,
  createdAt: new Date(clock.now()),
  ...more,
});

test("the root key is made once for an account and found by its id", async () => {
  const { keys, open } = await setUp();
  const root = await keys.rootKey(ACCOUNT);
  expect(root).toMatchObject({ name: "root", access: "full", expiresAt: null });
  expect(root.accessKeyId).toMatch(/^AKIA[A-Z2-7]{16}$/);
  expect(root.secretAccessKey).toMatch(/^[A-Za-z0-9+/]{40}$/);
  expect(root.principalArn).toBe("arn:aws:iam::000000000000:root");
  expect(await open().rootKey(ACCOUNT)).toEqual(root);
  expect(await keys.find(root.accessKeyId)).toEqual(root);
  expect(await keys.find("AKIAUNKNOWN")).toBeUndefined();
  const other = await keys.rootKey("111122223333");
  expect(other.accessKeyId).not.toBe(root.accessKeyId);
  expect(other.secretAccessKey).not.toBe(root.secretAccessKey);
});

describe("a secret", () => {
  test("is not in the database, and only opens for its own key and with the right ring", async () => {
    const { keys, rows, sealer, clock, open } = await setUp();
    const { accessKeyId, secretAccessKey } = await keys.rootKey(ACCOUNT);
    const { secret } = (await rows.find(accessKeyId))!;
    expect(secret.sealedWith).not.toBeNull();
    expect(secret.text).not.toContain(secretAccessKey);
    expect(sealer.open(accessKeyId, secret)).toBe(secretAccessKey);
    expect(sealer.open("AKIAOTHER", secret)).toBeUndefined();
    const flipped = Buffer.from(secret.text, "base64url");
    flipped[14]! ^= 1;
    expect(sealer.open(accessKeyId, { ...secret, text: flipped.toString("base64url") })).toBeUndefined();
    expect(sealer.open(accessKeyId, { ...secret, text: "" })).toBeUndefined();

    const lost = open(new Sealer([newTokenKey(clock)]));
    expect(await lost.find(accessKeyId)).toBeUndefined();
    expect((await lost.rootKey(ACCOUNT)).accessKeyId).not.toBe(accessKeyId);
  });

  test("that an earlier version kept as it is gets sealed, and goes on working", async () => {
    const { keys, rows, clock } = await setUp();
    await rows.insert(row(clock));
    await keys.open();
    const stored = await rows.find("AKIAAAAAAAAAAAAAAAAA");
    expect(stored?.secret.sealedWith).not.toBeNull();
    expect(stored?.secret.text).not.toContain("secret");
    expect((await keys.find("AKIAAAAAAAAAAAAAAAAA"))?.secretAccessKey).toBe("a secret of an earlier version");
    await keys.open();
    expect(await rows.find("AKIAAAAAAAAAAAAAAAAA")).toEqual(stored);
  });
});

test("a key is none while it or its account is disabled, or when its policy cannot be read", async () => {
  const { keys, rows, accounts, clock } = await setUp();
  await rows.insert(row(clock));
  const find = () => keys.find("AKIAAAAAAAAAAAAAAAAA");
  expect(await find()).toBeDefined();
  await accounts.setEnabled(ACCOUNT, false);
  expect(await find()).toBeUndefined();
  await accounts.setEnabled(ACCOUNT, true);
  await rows.update("AKIAAAAAAAAAAAAAAAAA", { enabled: false });
  expect(await find()).toBeUndefined();
  await rows.update("AKIAAAAAAAAAAAAAAAAA", { enabled: true, policy: '{"Version":"2099-01-01"}' });
  expect(await find()).toBeUndefined();
});

describe("uses", () => {
  test("are written once a minute, however many there are", async () => {
    const { keys, rows, clock } = await setUp();
    const writes: ReadonlyMap<string, number>[] = [];
    const record = rows.recordUses.bind(rows);
    rows.recordUses = async (uses) => {
      writes.push(uses);
      await record(uses);
    };
    await rows.insert(row(clock));
    const stop = new AbortController();
    const running = keys.run(stop.signal);
    for (let i = 0; i < 100; i++) keys.used("AKIAAAAAAAAAAAAAAAAA");
    const usedAt = clock.now();
    await clock.advance(59_999);
    expect(writes).toEqual([]);
    expect(keys.lastUse((await rows.find("AKIAAAAAAAAAAAAAAAAA"))!)).toEqual(new Date(usedAt));
    await clock.advance(1);
    expect(writes).toEqual([new Map([["AKIAAAAAAAAAAAAAAAAA", usedAt]])]);
    expect((await rows.find("AKIAAAAAAAAAAAAAAAAA"))?.lastUsedAt).toEqual(new Date(usedAt));
    await clock.advance(120_000);
    expect(writes.length).toBe(1);
    stop.abort();
    await running;
  });

  test("that could not be written are written the next time", async () => {
    const { keys, rows, clock } = await setUp();
    await rows.insert(row(clock));
    const record = rows.recordUses.bind(rows);
    rows.recordUses = async () => {
      throw new Error("busy");
    };
    keys.used("AKIAAAAAAAAAAAAAAAAA");
    await expect(keys.recordUses()).rejects.toThrow("busy");
    rows.recordUses = record;
    await keys.recordUses();
    expect((await rows.find("AKIAAAAAAAAAAAAAAAAA"))?.lastUsedAt).toEqual(new Date(clock.now()));
  });
});

test("credentials are written whole and for their owner alone", async () => {
  const folder = await temporaryFolder();
  const credentials = {
    accessKeyId: "AKIAAAAAAAAAAAAAAAAA",
    secretAccessKey: "s".repeat(40),
    region: "us-east-1",
    accountId: ACCOUNT,
    endpointUrl: "http://127.0.0.1:4700",
    endpointPort: 4743,
    caFile: "/ca.pem",
  };
  expect(await writeCredentials(folder, credentials)).toBe(credentialsPath(folder));
  expect(JSON.parse(await readFile(credentialsPath(folder), "utf8"))).toEqual(credentials);
  expect((await stat(credentialsPath(folder))).mode & 0o777).toBe(0o600);
});
