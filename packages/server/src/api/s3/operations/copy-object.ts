import type { ChecksumAlgorithm } from "../../../blobs/checksum.ts";
import type { ObjectLabels } from "../../../blobs/file-store.ts";
import { isBucketName, isObjectKey } from "../../../blobs/names.ts";
import type { ObjectMeta, OpenObject } from "../../../blobs/store/object-file.ts";
import type { Received } from "../../../blobs/store/staging.ts";
import { checksumAlgorithm } from "../body.ts";
import { requireCopyConditions, writePrecondition } from "../conditions.ts";
import { labelsOf, refuseUnknownWishes } from "../object-headers.ts";
import { authoriseS3, s3Arn } from "../permission.ts";
import { bucketOf, keyOf, ownBucket, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { element, rootElement } from "../wire/xml-write.ts";

export async function copyObject(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const key = keyOf(call);
  await using source = await openCopySource(call);
  const labels = labelsOfCopy(call, source.meta);
  const sameName = source.meta.key === key && sourceOf(call).bucket === bucket.facts.name;
  if (sameName && directive(call) === "COPY")
    throw new S3Error("InvalidRequest", {
      message:
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
    });
  const algorithms = checksumsToKeep(call, source.meta);
  await call.reply.whenDone(async () => {
    const meta = await call.store.put(bucket, {
      key,
      ...labels,
      body: source.stream(),
      size: source.meta.size,
      digest: algorithms,
      precondition: writePrecondition(call),
      accept: (received) => computed(received, algorithms),
    });
    return { markup: rootElement("CopyObjectResult", copyResult(meta)) };
  });
}

/** What is said of a copy, of an object or of a part. */
export function copyResult(meta: ObjectMeta): ReturnType<typeof element>[] {
  return [
    element("LastModified", new Date(meta.lastModified).toISOString()),
    element("ETag", `"${meta.etag}"`),
    ...Object.entries(meta.checksums).map(([algorithm, value]) => element(`Checksum${algorithm}`, value)),
  ];
}

/** The object that `x-amz-copy-source` names, if the caller may read it and its conditions hold. */
export async function openCopySource(call: S3Call): Promise<OpenObject> {
  const { bucket, key } = sourceOf(call);
  authoriseS3("s3:GetObject", s3Arn(bucket, key), call.auth.key);
  const object = await ownBucket(call, bucket, "x-amz-source-expected-bucket-owner").open(key);
  try {
    requireCopyConditions(call, object.meta);
    return object;
  } catch (err) {
    await object[Symbol.asyncDispose]();
    throw err;
  }
}

export function computed(received: Received, algorithms: readonly ChecksumAlgorithm[]): Record<string, string> {
  return Object.fromEntries(
    algorithms.map((algorithm) => [algorithm, received.digests.get(algorithm)?.toString("base64") ?? ""]),
  );
}

function sourceOf(call: S3Call): { bucket: string; key: string } {
  const header = call.request.header("x-amz-copy-source") ?? "";
  const [path = "", version] = header.split("?versionId=");
  if (version !== undefined && version !== "null") throw new S3Error("NoSuchVersion");
  const m = /^\/?([^/]+)\/(.+)$/s.exec(decode(path));
  const source = m && { bucket: m[1]!, key: m[2]! };
  if (!source || !isBucketName(source.bucket) || !isObjectKey(source.key))
    throw new S3Error("InvalidArgument", {
      message: "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
      details: { ArgumentName: "x-amz-copy-source", ArgumentValue: header },
    });
  return source;
}

function directive(call: S3Call): "COPY" | "REPLACE" {
  const text = call.request.header("x-amz-metadata-directive") ?? "COPY";
  if (text !== "COPY" && text !== "REPLACE")
    throw new S3Error("InvalidArgument", { message: "Unknown metadata directive." });
  return text;
}

function labelsOfCopy(call: S3Call, source: ObjectMeta): ObjectLabels {
  if (call.request.header("x-amz-tagging-directive")?.toUpperCase() === "REPLACE")
    throw new S3Error("NotImplemented", { details: { Header: "x-amz-tagging-directive" } });
  if (directive(call) === "REPLACE") return labelsOf(call);
  refuseUnknownWishes(call);
  return { headers: source.headers, userMetadata: source.userMetadata };
}

/** The wished one, or those of the source, computed anew: a composite one would not be that of the copy. */
function checksumsToKeep(call: S3Call, source: ObjectMeta): ChecksumAlgorithm[] {
  const wished = call.request.header("x-amz-checksum-algorithm");
  if (wished !== undefined) return [checksumAlgorithm(wished)];
  return Object.keys(source.checksums).map(checksumAlgorithm);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new S3Error("InvalidArgument", { details: { ArgumentName: "x-amz-copy-source" } });
  }
}
