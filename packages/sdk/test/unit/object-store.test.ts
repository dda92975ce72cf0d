import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { ObjectStore } from "../../src/index.ts";
import { KEY, listen, type Seen, signatureIsRight } from "./server.ts";

const signal = new AbortController().signal;
const store = (endpointUrl: string) => new ObjectStore({ endpointUrl, region: "eu-test-1", credentials: KEY });

test("an object goes up in one request whose signature covers its content", async () => {
  await using server = await listen((_, response) => response.end());
  await store(server.url).put("demo-bucket", "images/a b+c.zip", new Blob(["zip zip"]), signal);
  const [seen] = server.seen;
  expect(seen).toMatchObject({ method: "PUT", url: "/demo-bucket/images/a%20b%2Bc.zip", body: "zip zip" });
  expect(seen?.headers["x-amz-content-sha256"]).toBe(createHash("sha256").update("zip zip").digest("hex"));
  expect(seen?.headers["content-length"]).toBe("7");
  expect(await signatureIsRight(seen as Seen, "s3")).toBe(true);
});

test("a bucket that is there already is fine, any other refusal is not", async () => {
  const refuse = (status: number, code: string) =>
    listen((_, response) => response.writeHead(status).end(`<Error><Code>${code}</Code><Message>no</Message></Error>`));
  await using owned = await refuse(409, "BucketAlreadyOwnedByYou");
  await store(owned.url).createBucketIfMissing("b", signal);
  await using denied = await refuse(403, "AccessDenied");
  await expect(store(denied.url).createBucketIfMissing("b", signal)).rejects.toMatchObject({
    status: 403,
    type: "AccessDenied",
    message: "no",
  });
});
