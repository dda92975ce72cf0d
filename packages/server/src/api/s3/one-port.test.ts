import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { expect, onTestFinished, test } from "vitest";
import { openStore, temporaryFolder } from "../../blobs/store/store.fixture.ts";
import { systemClock as clock } from "../../lib/clock.ts";
import { createLog } from "../../lib/log.ts";
import { startApi } from "../api.fixture.ts";
import { KEY, KEYS } from "../sigv4/signer.fixture.ts";
import { noThrottle } from "../throttle.fixture.ts";
import { createS3Handler } from "./s3-handler.ts";
import { NO_AUDIT } from "./server.fixture.ts";

test("S3 is served on the API's port, with bodies that are waited for and dotted keys", async () => {
  const store = await openStore(await temporaryFolder());
  const log = createLog("silent");
  const throttle = noThrottle();
  const api = await startApi({
    s3: createS3Handler({ store, keys: KEYS, throttle, audit: NO_AUDIT, clock, log, region: "us-east-1" }),
  });
  const s3 = new S3Client({
    endpoint: api.url,
    region: "us-east-1",
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: { accessKeyId: KEY.accessKeyId, secretAccessKey: KEY.secretAccessKey },
  });
  onTestFinished(() => s3.destroy());
  await s3.send(new CreateBucketCommand({ Bucket: "bucket" }));
  // Above 2 MiB the client sends Expect: 100-continue.
  const Body = Buffer.alloc(4 << 20, "b");
  for (const Key of ["app.zip", "../2025-09-09/microvms"]) {
    await s3.send(new PutObjectCommand({ Bucket: "bucket", Key, Body }));
    const got = await s3.send(new GetObjectCommand({ Bucket: "bucket", Key }));
    expect(Buffer.from((await got.Body?.transformToByteArray()) ?? []).equals(Body)).toBe(true);
  }
  const absent = new PutObjectCommand({ Bucket: "absent", Key: "k", Body });
  await expect(s3.send(absent)).rejects.toMatchObject({ name: "NoSuchBucket" });
  const anonymous = await fetch(`${api.url}/bucket/app.zip`);
  expect(anonymous.status).toBe(403);
  expect(await anonymous.text()).toContain("<Code>AccessDenied</Code>");
  expect(api.calls).toEqual([]);
});
