import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { Agent } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import {
  AbortMultipartUploadCommand,
  ChecksumAlgorithm,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketLocationCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListMultipartUploadsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectAclCommand,
  PutObjectCommand,
  paginateListObjectsV2,
  type S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from "@aws-sdk/client-s3";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { createLog } from "../../lib/log.ts";
import { ALICE, BOB, startServer, type TestServer } from "./server.fixture.ts";

async function withBucket(): Promise<{ at: TestServer; s3: S3Client }> {
  const at = await startServer();
  const s3 = at.client();
  await s3.send(new CreateBucketCommand({ Bucket: "bucket" }));
  return { at, s3 };
}
const put = (s3: S3Client, Key: string, Body: string | Uint8Array = "x", more = {}): Promise<unknown> =>
  s3.send(new PutObjectCommand({ Bucket: "bucket", Key, Body, ...more }));
const get = async (s3: S3Client, Key: string, more = {}): Promise<string> => {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: "bucket", Key, ...more }));
  return (await Body?.transformToString()) ?? "";
};

describe("buckets, with the SDK", () => {
  test("are made, found, listed, located and deleted", async () => {
    const s3 = (await startServer()).client();
    const made = await s3.send(new CreateBucketCommand({ Bucket: "one" }));
    expect(made.Location).toBe("/one");
    await s3.send(new CreateBucketCommand({ Bucket: "two" }));
    const head = await s3.send(new HeadBucketCommand({ Bucket: "one" }));
    expect(head.BucketRegion).toBe("us-east-1");
    const list = await s3.send(new ListBucketsCommand({}));
    expect(list.Buckets?.map((b) => b.Name)).toEqual(["one", "two"]);
    expect(list.Buckets?.[0]?.CreationDate).toBeInstanceOf(Date);
    expect(list.Owner?.ID).toBe(ALICE.accountId);
    expect((await s3.send(new GetBucketLocationCommand({ Bucket: "one" }))).LocationConstraint).toBeUndefined();
    expect((await s3.send(new GetBucketVersioningCommand({ Bucket: "one" }))).Status).toBeUndefined();
    await s3.send(new DeleteBucketCommand({ Bucket: "one" }));
    await expect(s3.send(new HeadBucketCommand({ Bucket: "one" }))).rejects.toMatchObject({ name: "NotFound" });
  });

  test("of one account are closed to another, and their names taken", async () => {
    const { at, s3 } = await withBucket();
    await put(s3, "k");
    const bob = at.client(BOB);
    const denied = { name: "AccessDenied", $metadata: { httpStatusCode: 403 } };
    const Bucket = "bucket";
    await expect(s3.send(new CreateBucketCommand({ Bucket }))).rejects.toMatchObject({
      name: "BucketAlreadyOwnedByYou",
      $metadata: { httpStatusCode: 409 },
    });
    await expect(bob.send(new CreateBucketCommand({ Bucket }))).rejects.toMatchObject({
      name: "BucketAlreadyExists",
      $metadata: { httpStatusCode: 409 },
    });
    await expect(bob.send(new GetObjectCommand({ Bucket, Key: "k" }))).rejects.toMatchObject(denied);
    await expect(bob.send(new PutObjectCommand({ Bucket, Key: "k", Body: "y" }))).rejects.toMatchObject(denied);
    await expect(bob.send(new ListObjectsV2Command({ Bucket }))).rejects.toMatchObject(denied);
    await expect(bob.send(new DeleteObjectCommand({ Bucket, Key: "k" }))).rejects.toMatchObject(denied);
    await expect(bob.send(new DeleteBucketCommand({ Bucket }))).rejects.toMatchObject(denied);
    await expect(bob.send(new CreateMultipartUploadCommand({ Bucket, Key: "k" }))).rejects.toMatchObject(denied);
    await bob.send(new CreateBucketCommand({ Bucket: "bobs" }));
    await expect(
      bob.send(new CopyObjectCommand({ Bucket: "bobs", Key: "k", CopySource: "bucket/k" })),
    ).rejects.toMatchObject(denied);
    expect((await bob.send(new ListBucketsCommand({}))).Buckets?.map((b) => b.Name)).toEqual(["bobs"]);
    await expect(s3.send(new HeadBucketCommand({ Bucket, ExpectedBucketOwner: BOB.accountId }))).rejects.toMatchObject({
      $metadata: { httpStatusCode: 403 },
    });
    expect(await get(s3, "k")).toBe("x");
  });

  test("answer what cannot be as S3 does", async () => {
    const { s3 } = await withBucket();
    await put(s3, "k");
    await expect(s3.send(new DeleteBucketCommand({ Bucket: "bucket" }))).rejects.toMatchObject({
      name: "BucketNotEmpty",
    });
    await expect(s3.send(new DeleteBucketCommand({ Bucket: "absent" }))).rejects.toMatchObject({
      name: "NoSuchBucket",
    });
    await expect(put(s3, "k", "x", { Bucket: "absent" })).rejects.toMatchObject({
      name: "NoSuchBucket",
      $metadata: { httpStatusCode: 404, requestId: expect.stringMatching(/^[0-9A-F]{16}$/) },
    });
    await expect(s3.send(new CreateBucketCommand({ Bucket: "Bad_Name" }))).rejects.toMatchObject({
      name: "InvalidBucketName",
    });
    const elsewhere = { Bucket: "far", CreateBucketConfiguration: { LocationConstraint: "eu-west-1" as const } };
    await expect(s3.send(new CreateBucketCommand(elsewhere))).rejects.toMatchObject({
      name: "IllegalLocationConstraintException",
    });
    await expect(
      s3.send(new PutObjectAclCommand({ Bucket: "bucket", Key: "k", ACL: "public-read" })),
    ).rejects.toMatchObject({ name: "NotImplemented", $metadata: { httpStatusCode: 501 } });
    expect(await get(s3, "k")).toBe("x");
  });

  test("what S3 has and this has not is no error of the server's", async () => {
    const log = createLog("silent");
    vi.spyOn(log, "child").mockReturnValue(log as never); // its type is of another set of levels
    const logged = vi.spyOn(log, "error");
    const { client } = await startServer({ log });
    const acl = new PutObjectAclCommand({ Bucket: "bucket", Key: "k", ACL: "public-read" });
    await expect(client().send(acl)).rejects.toMatchObject({ name: "NotImplemented" });
    expect(logged).not.toHaveBeenCalled();
  });
});

describe("objects, with the SDK", () => {
  test("come back with what was said of them", async () => {
    const { s3 } = await withBucket();
    const labels = {
      ContentType: "text/plain; charset=utf-8",
      CacheControl: "no-cache",
      ContentDisposition: 'attachment; filename="a.txt"',
      ContentEncoding: "identity",
      ContentLanguage: "de",
      Metadata: { colour: "green", "two-words": "a b" },
    };
    await put(s3, "dir/a b+c ü\u{1f600}.txt", "hello", labels);
    const Key = "dir/a b+c ü\u{1f600}.txt";
    const got = await s3.send(new GetObjectCommand({ Bucket: "bucket", Key }));
    expect(await got.Body?.transformToString()).toBe("hello");
    expect(got).toMatchObject({ ...labels, ContentLength: 5, ETag: '"5d41402abc4b2a76b9719d911017c592"' });
    const head = await s3.send(new HeadObjectCommand({ Bucket: "bucket", Key }));
    expect(head).toMatchObject({ ...labels, ContentLength: 5, ETag: '"5d41402abc4b2a76b9719d911017c592"' });
    expect(head.LastModified).toBeInstanceOf(Date);
  });

  test("may be empty", async () => {
    const { s3 } = await withBucket();
    await put(s3, "empty", Buffer.alloc(0));
    expect(await get(s3, "empty")).toBe("");
    expect((await s3.send(new HeadObjectCommand({ Bucket: "bucket", Key: "empty" }))).ContentLength).toBe(0);
  });

  test.each([
    ChecksumAlgorithm.CRC32,
    ChecksumAlgorithm.CRC32C,
    ChecksumAlgorithm.CRC64NVME,
    ChecksumAlgorithm.SHA1,
    ChecksumAlgorithm.SHA256,
  ])("keep a %s, sent as a header and as a trailer", async (algorithm) => {
    const { s3 } = await withBucket();
    const data = Buffer.alloc(200_000, "checksum");
    const field = `Checksum${algorithm}` as const;
    const bodies: [string, Uint8Array | Readable][] = [
      ["header", data],
      ["trailer", Readable.from([data.subarray(0, 70_001), data.subarray(70_001)])],
    ];
    for (const [Key, Body] of bodies) {
      const sent = { Bucket: "bucket", Key, Body, ChecksumAlgorithm: algorithm, ContentLength: data.length };
      const out = await s3.send(new PutObjectCommand(sent));
      expect(out[field]).toBeTruthy();
      const got = await s3.send(new GetObjectCommand({ Bucket: "bucket", Key, ChecksumMode: "ENABLED" }));
      expect(got[field]).toBe(out[field]);
      // The client checks it against the bytes while these are read.
      expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(data)).toBe(true);
    }
  });

  test("are given in part", async () => {
    const { s3 } = await withBucket();
    await put(s3, "digits", "0123456789");
    expect(await get(s3, "digits", { Range: "bytes=2-4" })).toBe("234");
    expect(await get(s3, "digits", { Range: "bytes=7-" })).toBe("789");
    expect(await get(s3, "digits", { Range: "bytes=-2" })).toBe("89");
    expect(await get(s3, "digits", { Range: "bytes=8-99" })).toBe("89");
    expect(await get(s3, "digits", { Range: "nonsense" })).toBe("0123456789");
    const part = await s3.send(new GetObjectCommand({ Bucket: "bucket", Key: "digits", Range: "bytes=2-4" }));
    expect(part).toMatchObject({ ContentRange: "bytes 2-4/10", ContentLength: 3, $metadata: { httpStatusCode: 206 } });
    await expect(get(s3, "digits", { Range: "bytes=10-" })).rejects.toMatchObject({
      name: "InvalidRange",
      $metadata: { httpStatusCode: 416 },
    });
  });

  test("are read and written under conditions", async () => {
    const { s3 } = await withBucket();
    await put(s3, "k", "one");
    const { ETag, LastModified } = await s3.send(new HeadObjectCommand({ Bucket: "bucket", Key: "k" }));
    const at = (offset: number): Date => new Date((LastModified?.getTime() ?? 0) + offset);
    const status = (httpStatusCode: number): object => ({ $metadata: { httpStatusCode } });
    expect(await get(s3, "k", { IfMatch: ETag })).toBe("one");
    expect(await get(s3, "k", { IfNoneMatch: '"other"' })).toBe("one");
    expect(await get(s3, "k", { IfModifiedSince: at(-60_000) })).toBe("one");
    expect(await get(s3, "k", { IfMatch: ETag, IfUnmodifiedSince: at(-60_000) })).toBe("one");
    await expect(get(s3, "k", { IfMatch: '"other"' })).rejects.toMatchObject({
      name: "PreconditionFailed",
      ...status(412),
    });
    await expect(get(s3, "k", { IfNoneMatch: ETag })).rejects.toMatchObject(status(304));
    await expect(get(s3, "k", { IfModifiedSince: at(60_000) })).rejects.toMatchObject(status(304));
    await expect(get(s3, "k", { IfUnmodifiedSince: at(-60_000) })).rejects.toMatchObject(status(412));
    await expect(put(s3, "k", "two", { IfNoneMatch: "*" })).rejects.toMatchObject(status(412));
    await expect(put(s3, "k", "two", { IfMatch: '"other"' })).rejects.toMatchObject(status(412));
    await expect(put(s3, "absent", "two", { IfMatch: ETag })).rejects.toMatchObject(status(404));
    await put(s3, "k", "two", { IfMatch: ETag });
    await put(s3, "new", "x", { IfNoneMatch: "*" });
    expect(await get(s3, "k")).toBe("two");
  });

  test("are deleted one by one and together", async () => {
    const { s3 } = await withBucket();
    for (const key of ["a", "b & <c>", "d", "e"]) await put(s3, key);
    await s3.send(new DeleteObjectCommand({ Bucket: "bucket", Key: "a" }));
    await s3.send(new DeleteObjectCommand({ Bucket: "bucket", Key: "never-there" }));
    await expect(get(s3, "a")).rejects.toMatchObject({ name: "NoSuchKey", $metadata: { httpStatusCode: 404 } });
    await expect(s3.send(new HeadObjectCommand({ Bucket: "bucket", Key: "a" }))).rejects.toMatchObject({
      name: "NotFound",
    });
    const Delete = { Objects: [{ Key: "b & <c>" }, { Key: "absent" }, { Key: "e", VersionId: "v1" }] };
    const out = await s3.send(new DeleteObjectsCommand({ Bucket: "bucket", Delete }));
    expect(out.Deleted?.map((d) => d.Key)).toEqual(["b & <c>", "absent"]);
    expect(out.Errors).toMatchObject([{ Key: "e", Code: "NoSuchVersion" }]);
    const quiet = { Objects: [{ Key: "d" }], Quiet: true };
    expect((await s3.send(new DeleteObjectsCommand({ Bucket: "bucket", Delete: quiet }))).Deleted).toBeUndefined();
    const left = await s3.send(new ListObjectsV2Command({ Bucket: "bucket" }));
    expect(left.Contents?.map((o) => o.Key)).toEqual(["e"]);
  });

  test("are copied with their labels or with new ones, under conditions", async () => {
    const { s3 } = await withBucket();
    await put(s3, "from/ä b", "data", { ContentType: "text/plain", Metadata: { a: "1" }, ChecksumAlgorithm: "SHA256" });
    const CopySource = `bucket/${encodeURIComponent("from/ä b")}`;
    const copied = await s3.send(new CopyObjectCommand({ Bucket: "bucket", Key: "to", CopySource }));
    expect(copied.CopyObjectResult?.ETag).toBe(`"${createHash("md5").update("data").digest("hex")}"`);
    const expected = createHash("sha256").update("data").digest("base64");
    expect(copied.CopyObjectResult?.ChecksumSHA256).toBe(expected);
    const head = await s3.send(new HeadObjectCommand({ Bucket: "bucket", Key: "to" }));
    expect(head).toMatchObject({ ContentType: "text/plain", Metadata: { a: "1" } });
    const same = { Bucket: "bucket", Key: "from/ä b", CopySource };
    await expect(s3.send(new CopyObjectCommand(same))).rejects.toMatchObject({ name: "InvalidRequest" });
    await s3.send(new CopyObjectCommand({ ...same, MetadataDirective: "REPLACE", Metadata: { b: "2" } }));
    const replaced = await s3.send(new HeadObjectCommand({ Bucket: "bucket", Key: "from/ä b" }));
    expect(replaced).toMatchObject({ Metadata: { b: "2" }, ContentType: "binary/octet-stream" });
    expect(await get(s3, "from/ä b")).toBe("data");
    await expect(
      s3.send(new CopyObjectCommand({ Bucket: "bucket", Key: "to", CopySource, CopySourceIfMatch: '"x"' })),
    ).rejects.toMatchObject({ name: "PreconditionFailed" });
    await expect(
      s3.send(new CopyObjectCommand({ Bucket: "bucket", Key: "to", CopySource: "bucket/absent" })),
    ).rejects.toMatchObject({ name: "NoSuchKey" });
    expect((await s3.send(new GetObjectTaggingCommand({ Bucket: "bucket", Key: "to" }))).TagSet).toEqual([]);
  });

  test("are refused where a wish could only be ignored", async () => {
    const { s3 } = await withBucket();
    await expect(put(s3, "k", "x", { ServerSideEncryption: "aws:kms" })).rejects.toMatchObject({
      name: "NotImplemented",
    });
    await expect(put(s3, "k", "x", { Tagging: "a=b" })).rejects.toMatchObject({ name: "NotImplemented" });
    await expect(put(s3, "k", "x", { ACL: "public-read" })).rejects.toMatchObject({
      name: "AccessControlListNotSupported",
    });
    await expect(put(s3, "k", "x", { Metadata: { big: "x".repeat(2100) } })).rejects.toMatchObject({
      name: "MetadataTooLarge",
    });
    await expect(get(s3, "k", { VersionId: "v1" })).rejects.toMatchObject({ name: "NoSuchVersion" });
    await expect(get(s3, "k")).rejects.toMatchObject({ name: "NoSuchKey" });
  });
});

describe("listings, with the SDK", () => {
  const keys = ["a.txt", "dir/1", "dir/2", "dir/sub/3", "z & <é>\u{1f600}.txt"];

  test("have prefixes, delimiters, starts and pages", async () => {
    const { s3 } = await withBucket();
    for (const key of keys) await put(s3, key);
    const list = async (more: object) => await s3.send(new ListObjectsV2Command({ Bucket: "bucket", ...more }));
    const all = await list({});
    expect(all.Contents?.map((o) => o.Key)).toEqual(keys);
    expect(all).toMatchObject({ KeyCount: 5, MaxKeys: 1000, IsTruncated: false, Name: "bucket" });
    expect(all.Contents?.[0]).toMatchObject({ Size: 1, StorageClass: "STANDARD", ETag: expect.stringMatching(/^"/) });
    const top = await list({ Delimiter: "/" });
    expect(top.Contents?.map((o) => o.Key)).toEqual(["a.txt", keys[4]]);
    expect(top.CommonPrefixes).toEqual([{ Prefix: "dir/" }]);
    const inside = await list({ Delimiter: "/", Prefix: "dir/", FetchOwner: true });
    expect(inside.Contents?.map((o) => [o.Key, o.Owner?.ID])).toEqual([
      ["dir/1", ALICE.accountId],
      ["dir/2", ALICE.accountId],
    ]);
    expect(inside.CommonPrefixes).toEqual([{ Prefix: "dir/sub/" }]);
    expect((await list({ StartAfter: "dir/1" })).Contents?.map((o) => o.Key)).toEqual(keys.slice(2));
    expect((await list({ EncodingType: "url", Prefix: "z" })).Contents?.map((o) => o.Key)).toEqual([
      "z%20%26%20%3C%C3%A9%3E%F0%9F%98%80.txt",
    ]);
    const paged: (string | undefined)[] = [];
    for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket: "bucket" }))
      paged.push(...(page.Contents ?? []).map((o) => o.Key));
    expect(paged).toEqual(keys);
    await expect(list({ ContinuationToken: "nonsense" })).rejects.toMatchObject({ name: "InvalidArgument" });
    await expect(list({ MaxKeys: -1 })).rejects.toMatchObject({ name: "InvalidArgument" });
    expect((await list({ MaxKeys: 0 })).IsTruncated).toBe(false);
  });

  test("have markers in the first version", async () => {
    const { s3 } = await withBucket();
    for (const key of keys) await put(s3, key);
    const list = async (more: object) => await s3.send(new ListObjectsCommand({ Bucket: "bucket", ...more }));
    const first = await list({ MaxKeys: 2, Delimiter: "/" });
    expect(first).toMatchObject({ IsTruncated: true, NextMarker: "dir/", CommonPrefixes: [{ Prefix: "dir/" }] });
    const second = await list({ MaxKeys: 2, Delimiter: "/", Marker: first.NextMarker });
    expect(second.Contents?.map((o) => o.Key)).toEqual([keys[4]]);
    expect(second.IsTruncated).toBe(false);
  });
});

describe("multipart uploads, with the SDK", () => {
  const large = Buffer.alloc(5 * 2 ** 20, "part");
  const Bucket = "bucket";
  const Key = "big file";

  test.each([undefined, "CRC32", "SHA256", "CRC64NVME"] as const)(
    "become one object, with checksum %s",
    async (algorithm) => {
      const { at, s3 } = await withBucket();
      const created = await s3.send(
        new CreateMultipartUploadCommand({
          Bucket,
          Key,
          ContentType: "text/x",
          Metadata: { a: "b" },
          ...(algorithm && { ChecksumAlgorithm: algorithm }),
        }),
      );
      const UploadId = created.UploadId!;
      const Parts = [];
      for (const [PartNumber, Body] of [
        [2, Buffer.from("end")],
        [1, large],
      ] as const) {
        const part = await s3.send(
          new UploadPartCommand({
            Bucket,
            Key,
            UploadId,
            PartNumber,
            Body,
            ...(algorithm && { ChecksumAlgorithm: algorithm }),
          }),
        );
        const { $metadata: _, ...sums } = part;
        Parts.unshift({ PartNumber, ...sums });
      }
      const listed = await s3.send(new ListPartsCommand({ Bucket, Key, UploadId, MaxParts: 1 }));
      expect(listed).toMatchObject({
        IsTruncated: true,
        NextPartNumberMarker: "1",
        Parts: [{ PartNumber: 1, Size: large.length }],
      });
      const uploads = await s3.send(new ListMultipartUploadsCommand({ Bucket }));
      expect(uploads.Uploads).toMatchObject([{ Key, UploadId }]);
      const complete = new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } });
      const done = await s3.send(complete);
      expect(done.ETag).toMatch(/^"[0-9a-f]{32}-2"$/);
      expect(done.Location).toBe(`${at.endpoint}/bucket/big%20file`);
      expect((await s3.send(complete)).ETag).toBe(done.ETag);
      const got = await s3.send(new GetObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" }));
      expect(got).toMatchObject({ ContentType: "text/x", Metadata: { a: "b" }, ContentLength: large.length + 3 });
      if (algorithm) expect(got.ChecksumType).toBe(algorithm === "CRC64NVME" ? "FULL_OBJECT" : "COMPOSITE");
      const bytes = Buffer.from((await got.Body?.transformToByteArray()) ?? []);
      expect(bytes.equals(Buffer.concat([large, Buffer.from("end")]))).toBe(true);
      expect((await s3.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads).toBeUndefined();
    },
  );

  test("take parts of other objects", async () => {
    const { s3 } = await withBucket();
    await put(s3, "source", "0123456789");
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }));
    const part = { Bucket, Key, UploadId, PartNumber: 1, CopySource: "/bucket/source" };
    const copied = await s3.send(new UploadPartCopyCommand({ ...part, CopySourceRange: "bytes=3-5" }));
    const Parts = [{ PartNumber: 1, ETag: copied.CopyPartResult?.ETag }];
    await s3.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }));
    expect(await get(s3, Key)).toBe("345");
  });

  test("are aborted, and refuse what does not fit", async () => {
    const { at, s3 } = await withBucket();
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }));
    const { ETag } = await s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 1, Body: "small" }));
    const complete = async (Parts: object[]) =>
      await s3.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }));
    await expect(complete([{ PartNumber: 1, ETag: '"0"' }])).rejects.toMatchObject({ name: "InvalidPart" });
    await expect(
      complete([
        { PartNumber: 2, ETag },
        { PartNumber: 1, ETag },
      ]),
    ).rejects.toMatchObject({ name: "InvalidPartOrder" });
    await expect(complete([])).rejects.toMatchObject({ name: "MalformedXML" });
    await s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 2, Body: "small" }));
    await expect(
      complete([
        { PartNumber: 1, ETag },
        { PartNumber: 2, ETag },
      ]),
    ).rejects.toMatchObject({ name: "EntityTooSmall" });
    await expect(
      s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 10_001, Body: "x" })),
    ).rejects.toMatchObject({ name: "InvalidArgument" });
    await s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }));
    const gone = { name: "NoSuchUpload", $metadata: { httpStatusCode: 404 } };
    await expect(s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }))).rejects.toMatchObject(gone);
    await expect(complete([{ PartNumber: 1, ETag }])).rejects.toMatchObject(gone);
    await expect(
      s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 1, Body: "x" })),
    ).rejects.toMatchObject(gone);
    expect(await readdir(join(at.folder, "incoming"))).toEqual([]);
    expect(await readdir(join(at.folder, "buckets", "bucket", "uploads"))).toEqual([]);
  });
});

describe("keys and regions, with the SDK", () => {
  test("are refused as S3 refuses them", async () => {
    const at = await startServer();
    const stranger = at.client({ ...ALICE, accessKeyId: "AKIASTRANGER" });
    await expect(stranger.send(new ListBucketsCommand({}))).rejects.toMatchObject({ name: "InvalidAccessKeyId" });
    const wrong = at.client({ ...ALICE, secretAccessKey: "wrong" });
    await expect(wrong.send(new ListBucketsCommand({}))).rejects.toMatchObject({
      name: "SignatureDoesNotMatch",
      $metadata: { httpStatusCode: 403 },
    });
    const elsewhere = at.client(ALICE, { region: "eu-west-1" });
    await expect(elsewhere.send(new ListBucketsCommand({}))).rejects.toMatchObject({
      name: "AuthorizationHeaderMalformed",
    });
  });

  test("with names that mean something to file systems and URLs come back as they were", async () => {
    const { at, s3 } = await withBucket();
    const keys = [
      "../../../etc/passwd",
      "..",
      "a/../b",
      "a//b",
      "/lead",
      "trail/",
      "%2e%2e%2f",
      "%",
      "a?b#c&d=e",
      "+",
      " ",
      "\u0001",
      "x".repeat(1024),
      "\u{1f600}".repeat(256),
    ];
    for (const key of keys) await put(s3, key, `data of ${key}`);
    for (const key of keys) expect(await get(s3, key)).toBe(`data of ${key}`);
    const listed = await s3.send(new ListObjectsV2Command({ Bucket: "bucket", EncodingType: "url" }));
    expect(listed.Contents?.map((o) => decodeURIComponent(o.Key ?? "")).sort()).toEqual([...keys].sort());
    expect((await readdir(join(at.folder, "buckets", "bucket", "objects"))).length).toBe(keys.length);
    await expect(put(s3, "x".repeat(1025))).rejects.toMatchObject({ name: "KeyTooLongError" });
    await expect(put(s3, "a\0b")).rejects.toMatchObject({ name: "InvalidArgument" });
  });
});

test("a bucket in the host name is found under the domain that is set for it", async () => {
  const at = await startServer({ virtualHostDomain: "s3.localhost" });
  await at.client().send(new CreateBucketCommand({ Bucket: "bucket" }));
  // Names under .localhost are this machine's, whatever its resolver knows.
  const httpAgent = new Agent({
    lookup: (_host, _options, found) => found(null, [{ address: "127.0.0.1", family: 4 }]),
  });
  onTestFinished(() => httpAgent.destroy());
  const s3 = at.client(ALICE, {
    endpoint: `http://s3.localhost:${at.port}`,
    forcePathStyle: false,
    requestHandler: { httpAgent },
  });
  await put(s3, "dir/k", "virtual");
  expect(await get(s3, "dir/k")).toBe("virtual");
  expect(await get(at.client(), "dir/k")).toBe("virtual");
});
