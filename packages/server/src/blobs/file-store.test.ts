import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import type { FileStore } from "./file-store.ts";
import type { Bucket } from "./store/bucket.ts";
import { ACCOUNT, newObject, openStore, pieces, steppedClock, temporaryFolder } from "./store/store.fixture.ts";

async function storeWithBucket(folder: string): Promise<{ store: FileStore; bucket: Bucket }> {
  const store = await openStore(folder);
  await store.createBucket("bucket", ACCOUNT);
  return { store, bucket: store.bucket("bucket", ACCOUNT) };
}

const read = async (bucket: Bucket, key: string): Promise<string> => await text((await bucket.open(key)).stream());
const incoming = (folder: string): Promise<string[]> => readdir(join(folder, "incoming"));
const listed = async (bucket: Bucket): Promise<string[]> =>
  (await bucket.list({ max: 1000 })).objects.map((object) => object.key);

describe("objects", () => {
  test("come back as they were put, also after a restart", async () => {
    const folder = await temporaryFolder();
    const { store, bucket } = await storeWithBucket(folder);
    await store.put(
      bucket,
      newObject("a/b", "hello", {
        headers: [["content-type", "text/plain"]],
        userMetadata: [["__proto__", "x"]],
        digest: ["CRC32C"],
        accept: ({ digests }) => ({ CRC32C: digests.get("CRC32C")!.toString("base64") }),
      }),
    );
    const again = (await openStore(folder)).bucket("bucket", ACCOUNT);
    expect(await read(again, "a/b")).toBe("hello");
    expect(await again.head("a/b")).toMatchObject({
      key: "a/b",
      size: 5,
      etag: createHash("md5").update("hello").digest("hex"),
      headers: [["content-type", "text/plain"]],
      userMetadata: [["__proto__", "x"]],
      checksums: { CRC32C: "mnG7TA==" },
    });
    expect((await again.list({ max: 10 })).objects).toEqual([
      { key: "a/b", size: 5, etag: expect.any(String), lastModified: expect.any(Number) },
    ]);
  });

  test("may be empty, and any part of them can be read", async () => {
    const { store, bucket } = await storeWithBucket(await temporaryFolder());
    await store.put(bucket, newObject("empty", ""));
    await store.put(bucket, newObject("digits", "0123456789"));
    expect(await read(bucket, "empty")).toBe("");
    expect(await text((await bucket.open("digits")).stream(3, 5))).toBe("345");
    expect(await text((await bucket.open("digits")).stream(9, 9))).toBe("9");
  });

  test("with hostile keys stay inside the bucket's folder, each a thing of its own", async () => {
    const folder = await temporaryFolder();
    const { store, bucket } = await storeWithBucket(folder);
    const keys = [
      "../../escape",
      "..",
      ".",
      "/",
      "//",
      "/etc/passwd",
      "a/../b",
      "b",
      "\u0001",
      "ü",
      "u\u0308",
      "x".repeat(1024),
    ];
    for (const key of keys) await store.put(bucket, newObject(key, `data of ${key}`));
    for (const key of keys) expect(await read(bucket, key)).toBe(`data of ${key}`);
    expect((await readdir(join(folder, "buckets", "bucket", "objects"))).every((n) => /^[0-9a-f]{64}$/.test(n))).toBe(
      true,
    );
    expect((await listed(bucket)).length).toBe(keys.length);
  });

  test.each(["", "a\0b", "x".repeat(1025), "\ud800"])("are refused under the key %j", async (key) => {
    const { store, bucket } = await storeWithBucket(await temporaryFolder());
    await expect(store.put(bucket, newObject(key, "x"))).rejects.toMatchObject({ code: "invalid_key" });
    await expect(bucket.head(key)).rejects.toMatchObject({ code: "invalid_key" });
  });

  test("that are replaced are read to their end by who has them open", async () => {
    const { store, bucket } = await storeWithBucket(await temporaryFolder());
    const old = Buffer.alloc(1 << 20, "a");
    await store.put(bucket, newObject("k", old));
    const held = await bucket.open("k");
    await store.put(bucket, newObject("k", "new"));
    await bucket.delete(["k"]);
    expect((await buffer(held.stream())).equals(old)).toBe(true);
    await expect(bucket.open("k")).rejects.toMatchObject({ code: "no_such_key" });
  });

  test("of one key written at once leave one whole object, and the listing agrees with it", async () => {
    const { store, bucket } = await storeWithBucket(await temporaryFolder());
    await bucket.list({ max: 1 });
    await Promise.all(Array.from({ length: 20 }, (_, i) => store.put(bucket, newObject("k", "x".repeat(i + 1)))));
    const meta = await bucket.head("k");
    expect(await read(bucket, "k")).toBe("x".repeat(meta.size));
    expect((await bucket.list({ max: 10 })).objects).toMatchObject([{ key: "k", size: meta.size, etag: meta.etag }]);
  });

  test("that do not become whole leave nothing", async () => {
    const folder = await temporaryFolder();
    const { store, bucket } = await storeWithBucket(folder);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("half");
      throw new Error("client went away");
    }
    await expect(store.put(bucket, newObject("k", "", { body: broken() }))).rejects.toThrow("client went away");
    const refuse = (): never => {
      throw new Error("checksum differs");
    };
    await expect(store.put(bucket, newObject("k", "x", { accept: refuse }))).rejects.toThrow("checksum differs");
    const notTwice = (current: unknown): void => {
      if (current) throw new Error("exists");
    };
    await store.put(bucket, newObject("once", "x", { precondition: notTwice }));
    await expect(store.put(bucket, newObject("once", "y", { precondition: notTwice }))).rejects.toThrow("exists");
    expect(await incoming(folder)).toEqual([]);
    expect(await listed(bucket)).toEqual(["once"]);
    expect(await read(bucket, "once")).toBe("x");
  });

  test("larger than allowed are refused by their announcement and by their bytes", async () => {
    const folder = await temporaryFolder();
    const store = await openStore(folder, { maxObjectBytes: 10 });
    await store.createBucket("bucket", ACCOUNT);
    const bucket = store.bucket("bucket", ACCOUNT);
    await expect(store.put(bucket, newObject("k", "x".repeat(11)))).rejects.toMatchObject({ code: "too_large" });
    const lying = newObject("k", "", { body: pieces("x".repeat(6), "x".repeat(5)) });
    await expect(store.put(bucket, lying)).rejects.toMatchObject({ code: "too_large" });
    expect(await incoming(folder)).toEqual([]);
    await store.put(bucket, newObject("k", "x".repeat(10)));
  });

  test("are refused before the reserved space is touched", async () => {
    const store = await openStore(await temporaryFolder(), { reservedBytes: Number.MAX_SAFE_INTEGER });
    await store.createBucket("bucket", ACCOUNT);
    const put = store.put(store.bucket("bucket", ACCOUNT), newObject("k", "x"));
    await expect(put).rejects.toMatchObject({ code: "no_space" });
  });

  test.skipIf(process.getuid?.() !== 0)("that fill the disk leave nothing, and room is usable again", async () => {
    const folder = await temporaryFolder();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]);
    onTestFinished(() => void execFileSync("umount", [folder]));
    const { store, bucket } = await storeWithBucket(folder);
    const lying = newObject("k", "", { body: pieces(...Array.from({ length: 80 }, () => Buffer.alloc(1 << 16))) });
    await expect(store.put(bucket, lying)).rejects.toMatchObject({ code: "no_space" });
    expect(await incoming(folder)).toEqual([]);
    await store.put(bucket, newObject("k", Buffer.alloc(3 << 20)));
    expect((await bucket.head("k")).size).toBe(3 << 20);
  });

  test("whose file is damaged are an error to read and are not listed", async () => {
    const folder = await temporaryFolder();
    const { store, bucket } = await storeWithBucket(folder);
    await store.put(bucket, newObject("cut", "0123456789"));
    await store.put(bucket, newObject("flipped", "0123456789"));
    await store.put(bucket, newObject("good", "x"));
    const fileOf = (key: string): string =>
      join(folder, "buckets/bucket/objects", createHash("sha256").update(key).digest("hex"));
    await truncate(fileOf("cut"), (await stat(fileOf("cut"))).size - 1);
    const bytes = await readFile(fileOf("flipped"));
    bytes[15]! ^= 1;
    await writeFile(fileOf("flipped"), bytes);
    await expect(bucket.head("cut")).rejects.toThrow("not an object file");
    await expect(bucket.open("flipped")).rejects.toThrow("damaged");
    expect(await listed(bucket)).toEqual(["good"]);
  });
});

describe("the listing", () => {
  test("agrees with a map after any puts, deletes and restarts", async () => {
    const step = fc.oneof(
      fc.record({ put: fc.constantFrom("a", "a/b", "b", "é", "\u{1f600}"), data: fc.string({ maxLength: 3 }) }),
      fc.record({ delete: fc.constantFrom("a", "a/b", "b") }),
      fc.constant("restart" as const),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const folder = await temporaryFolder();
        let { store, bucket } = await storeWithBucket(folder);
        const map = new Map<string, number>();
        for (const s of steps) {
          if (s === "restart") {
            store = await openStore(folder);
            bucket = store.bucket("bucket", ACCOUNT);
          } else if ("put" in s) {
            map.set(s.put, (await store.put(bucket, newObject(s.put, s.data))).size);
          } else {
            await bucket.delete([s.delete]);
            map.delete(s.delete);
          }
          const page = await bucket.list({ max: 100 });
          expect(new Map(page.objects.map((o) => [o.key, o.size]))).toEqual(map);
        }
      }),
      { numRuns: 15 },
    );
  });

  test("that is made while objects come and go misses none of them", async () => {
    const folder = await temporaryFolder();
    const { store: first, bucket: before } = await storeWithBucket(folder);
    for (let i = 0; i < 50; i++) await first.put(before, newObject(`old-${i}`, "x"));
    const store = await openStore(folder);
    const bucket = store.bucket("bucket", ACCOUNT);
    const listing = bucket.list({ max: 1000 });
    await Promise.all([
      ...Array.from({ length: 10 }, (_, i) => store.put(bucket, newObject(`new-${i}`, "x"))),
      bucket.delete(["old-0", "old-1"]),
      listing,
    ]);
    const keys = await listed(bucket);
    expect(keys).toHaveLength(58);
    expect(keys).not.toContain("old-0");
  });
});

describe("buckets", () => {
  test("belong to the account that made them", async () => {
    const at = { ms: 1_700_000_000_000 };
    const store = await openStore(await temporaryFolder(), { clock: steppedClock(at) });
    await store.createBucket("mine", "111111111111");
    await expect(store.createBucket("mine", "111111111111")).rejects.toMatchObject({ code: "bucket_owned" });
    await expect(store.createBucket("mine", "222222222222")).rejects.toMatchObject({ code: "bucket_taken" });
    expect(() => store.bucket("mine", "222222222222")).toThrow("another account");
    await expect(store.deleteBucket("mine", "222222222222")).rejects.toMatchObject({ code: "denied" });
    expect(store.listBuckets("222222222222")).toEqual([]);
    expect(store.listBuckets("111111111111")).toEqual([{ name: "mine", accountId: "111111111111", createdAt: at.ms }]);
  });

  test.each(["ab", "Upper", "a_b", "-ab", "ab-", "a..b", "1.2.3.4", "../x", "x".repeat(64), "a/b", "a\0b"])(
    "are refused under the name %j",
    async (name) => {
      const store = await openStore(await temporaryFolder());
      await expect(store.createBucket(name, ACCOUNT)).rejects.toMatchObject({ code: "invalid_bucket_name" });
    },
  );

  test("go only when they are empty, and then for good", async () => {
    const folder = await temporaryFolder();
    const { store, bucket } = await storeWithBucket(folder);
    await store.put(bucket, newObject("k", "x"));
    await expect(store.deleteBucket("bucket", ACCOUNT)).rejects.toMatchObject({ code: "bucket_not_empty" });
    await bucket.delete(["k"]);
    await store.deleteBucket("bucket", ACCOUNT);
    expect(() => store.bucket("bucket", ACCOUNT)).toThrow("no bucket");
    await expect(store.put(bucket, newObject("k", "x"))).rejects.toMatchObject({ code: "no_such_bucket" });
    expect(await incoming(folder)).toEqual([]);
    expect((await openStore(folder)).listBuckets(ACCOUNT)).toEqual([]);
  });

  test("lose no acknowledged object to a removal at the same time", async () => {
    for (let round = 0; round < 10; round++) {
      const { store, bucket } = await storeWithBucket(await temporaryFolder());
      const [put, removed] = await Promise.allSettled([
        store.put(bucket, newObject("k", "x")),
        store.deleteBucket("bucket", ACCOUNT),
      ]);
      if (put.status === "fulfilled") expect(await read(store.bucket("bucket", ACCOUNT), "k")).toBe("x");
      else expect(removed.status).toBe("fulfilled");
    }
  });
});

test("what an earlier process left half written is removed at start", async () => {
  const folder = await temporaryFolder();
  await storeWithBucket(folder);
  await writeFile(join(folder, "incoming", "leftover"), "half");
  await openStore(folder);
  expect(await incoming(folder)).toEqual([]);
});
