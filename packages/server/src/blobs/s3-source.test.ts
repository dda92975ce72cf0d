import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer, text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { type S3SourceOptions, s3BlobSource } from "./s3-source.ts";

/** A server that answers as it is told; the client before it is the real one. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function sourceOf(endpoint: string, more: Partial<S3SourceOptions> = {}): ReturnType<typeof s3BlobSource> {
  const source = s3BlobSource({
    endpoint,
    region: "us-east-1",
    accessKeyId: "AKIATEST",
    secretAccessKey: "secret",
    forcePathStyle: true,
    ...more,
  });
  onTestFinished(async () => await source[Symbol.asyncDispose]());
  return source;
}
const ACCOUNT = "000000000000";
const never = new AbortController().signal;

describe("an external S3", () => {
  test("gives objects as streams of a known size", async () => {
    const asked: (string | undefined)[] = [];
    const endpoint = await serve((request, response) => {
      asked.push(request.url, request.headers.authorization?.split(",")[0]);
      response.writeHead(200, { "content-length": 5 }).end("hello");
    });
    const { size, body } = await sourceOf(endpoint).open(ACCOUNT, "bucket", "a/b c.zip", never);
    expect(size).toBe(5);
    expect(await text(body)).toBe("hello");
    expect(asked[0]).toBe("/bucket/a/b%20c.zip?x-id=GetObject");
    expect(asked[1]).toMatch(/^AWS4-HMAC-SHA256 Credential=AKIATEST\//);
  });

  test.each([
    [404, "NoSuchBucket", "S3_NO_SUCH_BUCKET"],
    [404, "NoSuchKey", "S3_NO_SUCH_KEY"],
    [404, "SomethingOfItsOwn", "S3_NO_SUCH_KEY"],
    [403, "AccessDenied", "S3_ACCESS_DENIED"],
    [403, "InvalidAccessKeyId", "S3_ACCESS_DENIED"],
    [403, "InvalidObjectState", "S3_INVALID_OBJECT"],
    [400, "AuthorizationHeaderMalformed", "INTERNAL_PLATFORM_ERROR"],
    [501, "NotImplemented", "INTERNAL_PLATFORM_ERROR"],
  ])("whose answer is %i %s is reported with the image service's code", async (status, code, expected) => {
    const endpoint = await serve((_, response) => {
      response.writeHead(status, { "content-type": "application/xml" });
      response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>m</Message></Error>`);
    });
    await expect(sourceOf(endpoint).open(ACCOUNT, "bucket", "k", never)).rejects.toMatchObject({
      name: "BlobError",
      code: expected,
      message: expect.stringContaining("s3://bucket/k"),
    });
  });

  test("that redirects is not followed", async () => {
    let followed = false;
    const elsewhere = await serve((_, response) => {
      followed = true;
      response.end("secret");
    });
    for (const status of [301, 302, 307, 308]) {
      const endpoint = await serve((_, response) => {
        response.writeHead(status, { location: `${elsewhere}/bucket/k`, "x-amz-bucket-region": "eu-west-1" });
        response.end("<Error><Code>PermanentRedirect</Code><Endpoint>elsewhere</Endpoint></Error>");
      });
      await expect(sourceOf(endpoint).open(ACCOUNT, "bucket", "k", never)).rejects.toMatchObject({
        code: "INTERNAL_PLATFORM_ERROR",
      });
    }
    expect(followed).toBe(false);
  });

  test("that is not there, or does not answer in time, is a failure of the platform", async () => {
    const failure = { code: "INTERNAL_PLATFORM_ERROR" };
    await expect(sourceOf("http://127.0.0.1:1").open(ACCOUNT, "bucket", "k", never)).rejects.toMatchObject(failure);
    const silent = await serve(() => {});
    await expect(sourceOf(silent, { openTimeoutMs: 50 }).open(ACCOUNT, "bucket", "k", never)).rejects.toMatchObject(
      failure,
    );
  });

  test.each<[string, RequestListener]>([
    ["stalls", (_, response) => void response.writeHead(200, { "content-length": 100 }).write("part")],
    [
      "breaks off",
      (_, response) => void response.writeHead(200, { "content-length": 100 }).write("part", () => response.destroy()),
    ],
  ])("that %s in the middle ends the stream with an error", async (_, listener) => {
    const source = sourceOf(await serve(listener), { idleTimeoutMs: 50 });
    const { body } = await source.open(ACCOUNT, "bucket", "k", never);
    await expect(buffer(body)).rejects.toMatchObject({ name: "BlobError", code: "INTERNAL_PLATFORM_ERROR" });
  });

  test("is let go when the caller gives up", async () => {
    const stop = new AbortController();
    const reason = new Error("no longer wanted");
    const source = sourceOf(
      await serve((_, response) => void response.writeHead(200, { "content-length": 9 }).write("x")),
    );
    const { body } = await source.open(ACCOUNT, "bucket", "k", stop.signal);
    const read = buffer(body);
    stop.abort(reason);
    await expect(read).rejects.toBe(reason);
    await expect(source.open(ACCOUNT, "bucket", "k", stop.signal)).rejects.toBe(reason);
  });

  test("is let go when its object is not read at all", async () => {
    let closed = (): void => {};
    const gone = new Promise<void>((resolve) => {
      closed = resolve;
    });
    const endpoint = await serve((_, response) => {
      response.once("close", closed).writeHead(200, { "content-length": 9 }).write("x");
    });
    const { body } = await sourceOf(endpoint).open(ACCOUNT, "bucket", "k", never);
    body.destroy();
    await gone;
  });

  test.each([
    [{ endpoint: "s3.example.com" }, "s3-endpoint"],
    [{ endpoint: "file:///etc" }, "s3-endpoint"],
    [{ accessKeyId: "" }, "s3-access-key-id"],
    [{ secretAccessKey: "" }, "s3-secret-access-key"],
  ])("is refused with the settings %j", (more, message) => {
    expect(() => sourceOf("http://127.0.0.1:1", more)).toThrow(message);
  });
});
