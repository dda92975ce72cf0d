import * as s3 from "@aws-sdk/client-s3";
import type { AuditEvent } from "@torpor/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { type Access, parsePolicy } from "../../control/identity/policy.ts";
import { TorporError } from "../../lib/errors.ts";
import { S3_ROUTES } from "./route.ts";
import { ALICE, startServer } from "./server.fixture.ts";

const USER = `arn:aws:iam::${ALICE.accountId}:user/ci`;
const BUCKET = "arn:aws:s3:::bucket";
const OBJECT = `${BUCKET}/a/key`;
const at = { Bucket: "bucket", Key: "a/key" };

let access: Access;
let events: AuditEvent[];
let failing: "ready" | "append" | undefined;
let client: s3.S3Client;

beforeEach(async () => {
  access = "full";
  events = [];
  failing = undefined;
  const key = { ...ALICE, name: "ci", principalArn: USER };
  const fail = (when: typeof failing): void => {
    if (failing === when) throw new TorporError("unavailable", "The audit trail cannot be written.");
  };
  const server = await startServer({
    keys: { find: async () => ({ ...key, access }), used: () => {} },
    audit: {
      ready: async () => fail("ready"),
      append: async (event) => {
        fail("append");
        events.push(event);
      },
    },
  });
  client = server.client();
  await client.send(new s3.CreateBucketCommand({ Bucket: "bucket" }));
  await client.send(new s3.PutObjectCommand({ ...at, Body: "text" }));
  events = [];
});

const policy = (...statements: readonly (readonly ["Allow" | "Deny", string, string])[]) =>
  parsePolicy({
    Version: "2012-10-17",
    Statement: statements.map(([Effect, Action, Resource]) => ({ Effect, Action, Resource })),
  });

const uploadId = async (): Promise<string> =>
  (await client.send(new s3.CreateMultipartUploadCommand(at))).UploadId ?? "";

type Ask = (id: string) => Promise<unknown>;
const COPY = { Bucket: "bucket", Key: "copy", CopySource: "bucket/a/key" };
/** Each operation as the real client sends it, with what IAM calls its action and resource. */
const CASES: Readonly<Record<string, readonly [action: string, resource: string, ask: Ask]>> = {
  ListBuckets: ["s3:ListAllMyBuckets", "*", () => client.send(new s3.ListBucketsCommand({}))],
  CreateBucket: ["s3:CreateBucket", `${BUCKET}2`, () => client.send(new s3.CreateBucketCommand({ Bucket: "bucket2" }))],
  HeadBucket: ["s3:ListBucket", BUCKET, () => client.send(new s3.HeadBucketCommand({ Bucket: "bucket" }))],
  GetBucketLocation: [
    "s3:GetBucketLocation",
    BUCKET,
    () => client.send(new s3.GetBucketLocationCommand({ Bucket: "bucket" })),
  ],
  GetBucketVersioning: [
    "s3:GetBucketVersioning",
    BUCKET,
    () => client.send(new s3.GetBucketVersioningCommand({ Bucket: "bucket" })),
  ],
  ListMultipartUploads: [
    "s3:ListBucketMultipartUploads",
    BUCKET,
    () => client.send(new s3.ListMultipartUploadsCommand({ Bucket: "bucket" })),
  ],
  ListObjects: ["s3:ListBucket", BUCKET, () => client.send(new s3.ListObjectsV2Command({ Bucket: "bucket" }))],
  PutObject: ["s3:PutObject", OBJECT, () => client.send(new s3.PutObjectCommand({ ...at, Body: "more" }))],
  GetObject: [
    "s3:GetObject",
    OBJECT,
    async () => (await client.send(new s3.GetObjectCommand(at))).Body?.transformToString(),
  ],
  HeadObject: ["s3:GetObject", OBJECT, () => client.send(new s3.HeadObjectCommand(at))],
  GetObjectTagging: ["s3:GetObjectTagging", OBJECT, () => client.send(new s3.GetObjectTaggingCommand(at))],
  CopyObject: ["s3:PutObject", `${BUCKET}/copy`, () => client.send(new s3.CopyObjectCommand(COPY))],
  CreateMultipartUpload: ["s3:PutObject", OBJECT, uploadId],
  UploadPart: [
    "s3:PutObject",
    OBJECT,
    (UploadId) => client.send(new s3.UploadPartCommand({ ...at, UploadId, PartNumber: 1, Body: "part" })),
  ],
  UploadPartCopy: [
    "s3:PutObject",
    OBJECT,
    (UploadId) =>
      client.send(new s3.UploadPartCopyCommand({ ...at, UploadId, PartNumber: 2, CopySource: "bucket/a/key" })),
  ],
  ListParts: [
    "s3:ListMultipartUploadParts",
    OBJECT,
    (UploadId) => client.send(new s3.ListPartsCommand({ ...at, UploadId })),
  ],
  CompleteMultipartUpload: [
    "s3:PutObject",
    OBJECT,
    async (UploadId) => {
      const before = access;
      access = "full";
      const { ETag } = await client.send(new s3.UploadPartCommand({ ...at, UploadId, PartNumber: 1, Body: "part" }));
      access = before;
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
      return await client.send(new s3.CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload }));
    },
  ],
  AbortMultipartUpload: [
    "s3:AbortMultipartUpload",
    OBJECT,
    (UploadId) => client.send(new s3.AbortMultipartUploadCommand({ ...at, UploadId })),
  ],
  DeleteObject: ["s3:DeleteObject", OBJECT, () => client.send(new s3.DeleteObjectCommand(at))],
  DeleteBucket: [
    "s3:DeleteBucket",
    BUCKET,
    async () => {
      const before = access;
      access = "full";
      await client.send(new s3.DeleteObjectCommand(at));
      access = before;
      return await client.send(new s3.DeleteBucketCommand({ Bucket: "bucket" }));
    },
  ],
};
const READING = /^(List|Get|Head)/;

test("every operation of S3 is tried here", () => {
  expect([...Object.keys(CASES), "DeleteObjects"].sort()).toEqual(S3_ROUTES.map(({ name }) => name).sort());
  for (const { name, action } of S3_ROUTES) expect(action).toBe(CASES[name]?.[0] ?? "s3:DeleteObject");
});

describe.each(Object.entries(CASES))("%s", (name, [action, resource, ask]) => {
  test("needs permission, and is written down if it changes something", async () => {
    const id = await uploadId();
    access = policy(["Allow", "lambda:*", "*"]);
    const denied = await ask(id).catch((err: unknown) => err);
    expect(denied).toMatchObject({ $metadata: { httpStatusCode: 403 } });
    if (!/^Head/.test(name))
      expect(denied).toMatchObject({
        name: "AccessDenied",
        message: `User: ${USER} is not authorized to perform: ${action} on resource: "${resource}" because no identity-based policy allows the ${action} action`,
      });
    access = policy(["Allow", "*", "*"], ["Deny", action, resource]);
    await expect(ask(id)).rejects.toMatchObject({ $metadata: { httpStatusCode: 403 } });
    events = [];
    access = policy(["Allow", action, resource], ["Allow", "s3:GetObject", "*"]);
    await ask(id);
    const own = events.filter(({ operation }) => operation === `s3:${name}`);
    expect(own.map((e) => [e.resource, e.keyName, e.accountId, e.error, e.status < 300])).toEqual(
      READING.test(name) ? [] : [[resource, "ci", ALICE.accountId, null, true]],
    );
  });
});

test.each(["CopyObject", "UploadPartCopy"])("%s needs permission for what is copied, too", async (name) => {
  const id = await uploadId();
  access = policy(["Allow", "s3:PutObject", "*"]);
  await expect(CASES[name]?.[2](id)).rejects.toMatchObject({
    name: "AccessDenied",
    message: expect.stringContaining(`s3:GetObject on resource: "${OBJECT}" because`),
  });
});

test("deleting many asks for each, and tells of each", async () => {
  for (const Key of ["keep/1", "drop/1", "drop/2"])
    await client.send(new s3.PutObjectCommand({ Bucket: "bucket", Key, Body: "x" }));
  events = [];
  access = policy(["Allow", "s3:DeleteObject", `${BUCKET}/drop/*`]);
  const Delete = { Objects: ["keep/1", "drop/1", "drop/2"].map((Key) => ({ Key })) };
  const answer = await client.send(new s3.DeleteObjectsCommand({ Bucket: "bucket", Delete }));
  expect(answer.Deleted?.map(({ Key }) => Key)).toEqual(["drop/1", "drop/2"]);
  expect(answer.Errors).toMatchObject([
    { Key: "keep/1", Code: "AccessDenied", Message: expect.stringContaining(USER) },
  ]);
  expect(events.map((e) => [e.operation, e.resource, e.error])).toEqual([
    ["s3:DeleteObjects", `${BUCKET}/drop/1`, null],
    ["s3:DeleteObjects", `${BUCKET}/drop/2`, null],
  ]);
  access = "full";
  await client.send(new s3.HeadObjectCommand({ Bucket: "bucket", Key: "keep/1" }));
});

test("what fails is written down with its error", async () => {
  await expect(client.send(new s3.DeleteBucketCommand({ Bucket: "bucket" }))).rejects.toMatchObject({
    name: "BucketNotEmpty",
  });
  expect(events).toMatchObject([
    { operation: "s3:DeleteBucket", resource: BUCKET, status: 409, error: "BucketNotEmpty" },
  ]);
});

describe("while the trail cannot be written", () => {
  test("nothing is changed, and reading goes on", async () => {
    failing = "ready";
    await expect(client.send(new s3.DeleteObjectCommand(at))).rejects.toMatchObject({
      name: "ServiceUnavailable",
      $metadata: { httpStatusCode: 503 },
    });
    expect(await (await client.send(new s3.GetObjectCommand(at))).Body?.transformToString()).toBe("text");
  });

  test("what was done is not said to have been", async () => {
    failing = "append";
    for (const command of [
      () => client.send(new s3.PutObjectCommand({ ...at, Body: "new" })),
      () => client.send(new s3.CopyObjectCommand(COPY)),
      () => client.send(new s3.DeleteObjectCommand(at)),
    ])
      await expect(command()).rejects.toMatchObject({ name: "ServiceUnavailable", $metadata: { httpStatusCode: 503 } });
  });
});
