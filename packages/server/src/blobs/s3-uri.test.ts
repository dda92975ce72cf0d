import { expect, test } from "vitest";
import { parseS3Uri } from "./s3-uri.ts";

test("an S3 URI is a bucket and a key, taken literally", () => {
  expect(parseS3Uri("s3://demo-bucket/app.zip")).toEqual({ bucket: "demo-bucket", key: "app.zip" });
  expect(parseS3Uri("s3://b.c/a//b%20c/../d?e#f\ng")).toEqual({ bucket: "b.c", key: "a//b%20c/../d?e#f\ng" });
});

test.each([
  "",
  "s3://",
  "s3://bucket",
  "s3://bucket/",
  "s3:///key",
  "S3://bucket/key",
  "https://bucket/key",
  " s3://bucket/key",
  "s3://Bucket/key",
  "s3://a/key",
  "s3://user@bucket/key",
  "s3://bucket:80/key",
  "s3://127.0.0.1/key",
  "s3://bucket/a\0b",
  `s3://bucket/${"x".repeat(1025)}`,
])("%j is not an S3 URI", (uri) => {
  expect(parseS3Uri(uri)).toBeUndefined();
});
