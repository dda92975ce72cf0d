import { buffer, text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { fileBlobSource } from "./file-source.ts";
import { ACCOUNT, newObject, openStore, temporaryFolder } from "./store/store.fixture.ts";

async function storeWithObject(): Promise<Awaited<ReturnType<typeof openStore>>> {
  const store = await openStore(await temporaryFolder());
  await store.createBucket("bucket", ACCOUNT);
  await store.put(store.bucket("bucket", ACCOUNT), newObject("app.zip", Buffer.alloc(1 << 20, "z")));
  return store;
}
const never = new AbortController().signal;

test("the embedded store gives an account its objects", async () => {
  const source = fileBlobSource(await storeWithObject());
  const { size, body } = await source.open(ACCOUNT, "bucket", "app.zip", never);
  expect(size).toBe(1 << 20);
  expect(await text(body)).toBe("z".repeat(1 << 20));
});

test.each([
  ["absent", "app.zip", ACCOUNT, "S3_NO_SUCH_BUCKET"],
  ["bucket", "absent", ACCOUNT, "S3_NO_SUCH_KEY"],
  ["bucket", "a\0b", ACCOUNT, "S3_NO_SUCH_KEY"],
  ["bucket", "app.zip", "222222222222", "S3_ACCESS_DENIED"],
])("the embedded store refuses %s/%s to %s with %s", async (bucket, key, account, code) => {
  const source = fileBlobSource(await storeWithObject());
  await expect(source.open(account, bucket, key, never)).rejects.toMatchObject({ name: "BlobError", code });
});

test("a read from the embedded store ends when the caller gives up", async () => {
  const source = fileBlobSource(await storeWithObject());
  const stop = new AbortController();
  const { body } = await source.open(ACCOUNT, "bucket", "app.zip", stop.signal);
  const reason = new Error("no longer wanted");
  stop.abort(reason);
  await expect(buffer(body)).rejects.toBe(reason);
  await expect(source.open(ACCOUNT, "bucket", "app.zip", stop.signal)).rejects.toBe(reason);
});
