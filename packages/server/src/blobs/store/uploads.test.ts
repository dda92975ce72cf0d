import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import type { FileStore } from "../file-store.ts";
import type { Bucket } from "./bucket.ts";
import { ACCOUNT, openStore, pieces, steppedClock, temporaryFolder } from "./store.fixture.ts";
import type { UploadFacts } from "./upload-facts.ts";

const LARGE = 5 * 2 ** 20;
const md5 = (data: Uint8Array): Buffer => createHash("md5").update(data).digest();

interface Setup {
  readonly folder: string;
  readonly store: FileStore;
  readonly bucket: Bucket;
  readonly upload: UploadFacts;
}
async function setup(checksum: Partial<Pick<UploadFacts, "checksumAlgorithm" | "checksumType">> = {}): Promise<Setup> {
  const folder = await temporaryFolder();
  const store = await openStore(folder);
  await store.createBucket("bucket", ACCOUNT);
  const bucket = store.bucket("bucket", ACCOUNT);
  const what = { key: "k", headers: [], userMetadata: [], checksumType: "COMPOSITE", ...checksum } as const;
  return { folder, store, bucket, upload: await store.uploads.create(bucket, what) };
}

async function put(s: Setup, partNumber: number, data: Uint8Array): Promise<string> {
  const part = { partNumber, body: pieces(data), size: data.length, digest: [], accept: () => ({}) };
  return (await s.store.uploads.putPart(s.bucket, s.upload, part)).etag;
}

const complete = (s: Setup, parts: [number, string][], claims = {}): ReturnType<FileStore["uploads"]["complete"]> =>
  s.store.uploads.complete(
    s.bucket,
    "k",
    s.upload.uploadId,
    parts.map(([partNumber, etag]) => ({ partNumber, etag, checksums: {} })),
    { checksums: {}, ...claims },
  );

const first = Buffer.alloc(LARGE, "a");
const second = Buffer.from("the end");

describe("a multipart upload", () => {
  test("makes one object of its parts, in their order, with S3's ETag", async () => {
    const s = await setup();
    const two = await put(s, 7, second);
    const one = await put(s, 2, first);
    const meta = await complete(s, [
      [2, one],
      [7, two],
    ]);
    expect(meta.etag).toBe(`${md5(Buffer.concat([md5(first), md5(second)])).toString("hex")}-2`);
    expect((await buffer((await s.bucket.open("k")).stream())).equals(Buffer.concat([first, second]))).toBe(true);
    expect(await readdir(join(s.bucket.folder, "uploads"))).toEqual([]);
    expect(await readdir(join(s.folder, "incoming"))).toEqual([]);
  });

  test("answers a repeated completion with what the first one made", async () => {
    const s = await setup();
    const etag = await put(s, 1, second);
    const meta = await complete(s, [[1, etag]]);
    expect(await complete(s, [[1, etag]])).toEqual(meta);
    await s.bucket.delete(["k"]);
    await expect(complete(s, [[1, etag]])).rejects.toMatchObject({ code: "no_such_upload" });
  });

  test("keeps the newest part of a number", async () => {
    const s = await setup();
    const old = await put(s, 1, Buffer.from("old"));
    const etag = await put(s, 1, Buffer.from("new"));
    await expect(complete(s, [[1, old]])).rejects.toMatchObject({ code: "invalid_part" });
    expect((await complete(s, [[1, etag]])).size).toBe(3);
  });

  test("refuses wrong order, absent parts, small parts, wrong sizes, and can then still be completed", async () => {
    const s = await setup();
    const [small, large] = [await put(s, 1, second), await put(s, 2, first)];
    const attempts: [Promise<unknown>, string][] = [
      [
        complete(s, [
          [2, large],
          [1, small],
        ]),
        "invalid_part_order",
      ],
      [
        complete(s, [
          [2, large],
          [2, large],
        ]),
        "invalid_part_order",
      ],
      [
        complete(s, [
          [1, small],
          [3, large],
        ]),
        "invalid_part",
      ],
      [
        complete(s, [
          [1, small],
          [2, large],
        ]),
        "part_too_small",
      ],
      [complete(s, []), "invalid_part"],
      [complete(s, [[2, large]], { size: 1 }), "mismatch"],
      [complete(s, [[2, large]], { checksums: { CRC32: "AAAAAA==" } }), "mismatch"],
    ];
    for (const [attempt, code] of attempts) await expect(attempt).rejects.toMatchObject({ code });
    expect(await readdir(join(s.folder, "incoming"))).toEqual([]);
    expect((await complete(s, [[2, large]])).size).toBe(LARGE);
  });

  test("keeps a composite checksum: that of the parts' checksums", async () => {
    const s = await setup({ checksumAlgorithm: "SHA256", checksumType: "COMPOSITE" });
    const parts: [number, string][] = [
      [1, await put(s, 1, first)],
      [2, await put(s, 2, second)],
    ];
    const sha = (data: Uint8Array): Buffer => createHash("sha256").update(data).digest();
    const expected = `${sha(Buffer.concat([sha(first), sha(second)])).toString("base64")}-2`;
    expect((await complete(s, parts)).checksums).toEqual({ SHA256: expected });
  });

  test("keeps a full checksum: that of all the bytes", async () => {
    const s = await setup({ checksumAlgorithm: "CRC64NVME", checksumType: "FULL_OBJECT" });
    const parts: [number, string][] = [[1, await put(s, 1, Buffer.from("123456789"))]];
    const expected = Buffer.from("ae8b14860a799888", "hex").toString("base64");
    const meta = await complete(s, parts, { checksums: { CRC64NVME: expected } });
    expect(meta).toMatchObject({ checksums: { CRC64NVME: expected }, checksumType: "FULL_OBJECT" });
  });

  test("that was aborted is gone with its parts, and takes none", async () => {
    const s = await setup();
    await put(s, 1, first);
    await s.store.uploads.abort(s.bucket, "k", s.upload.uploadId);
    await expect(put(s, 2, second)).rejects.toMatchObject({ code: "no_such_upload" });
    await expect(s.store.uploads.abort(s.bucket, "k", s.upload.uploadId)).rejects.toMatchObject({
      code: "no_such_upload",
    });
    expect(await readdir(join(s.bucket.folder, "uploads"))).toEqual([]);
    expect(await readdir(join(s.folder, "incoming"))).toEqual([]);
  });

  test.each(["../../buckets/bucket", "", "x", "0".repeat(32)])("is not found under the id %j", async (id) => {
    const s = await setup();
    await expect(s.store.uploads.find(s.bucket, "k", id)).rejects.toMatchObject({ code: "no_such_upload" });
    await expect(s.store.uploads.find(s.bucket, "other", s.upload.uploadId)).rejects.toMatchObject({
      code: "no_such_upload",
    });
  });

  test("survives a restart, and is removed at one after seven days", async () => {
    const at = { ms: 1_700_000_000_000 };
    const folder = await temporaryFolder();
    const clock = steppedClock(at);
    const store = await openStore(folder, { clock });
    await store.createBucket("bucket", ACCOUNT);
    const what = { key: "k", headers: [], userMetadata: [], checksumType: "COMPOSITE" } as const;
    const upload = await store.uploads.create(store.bucket("bucket", ACCOUNT), what);
    at.ms += 7 * 24 * 3600 * 1000;
    const second = await openStore(folder, { clock });
    expect(await second.uploads.list(second.bucket("bucket", ACCOUNT))).toEqual([upload]);
    at.ms += 1;
    const third = await openStore(folder, { clock });
    expect(await third.uploads.list(third.bucket("bucket", ACCOUNT))).toEqual([]);
  });
});
