import { CHECKSUM_ALGORITHMS, type Checksums } from "../../../blobs/checksum.ts";
import type { CompletedPart, WholeObjectClaims } from "../../../blobs/store/assemble.ts";
import type { UploadFacts } from "../../../blobs/store/upload-facts.ts";
import { MAX_PARTS } from "../../../blobs/store/uploads.ts";
import { checkedBody, checksumAlgorithm, headerOf, readSmallBody } from "../body.ts";
import { writePrecondition } from "../conditions.ts";
import { checksumHeaders, labelsOf } from "../object-headers.ts";
import { parseRange } from "../range.ts";
import { bucketOf, integerOf, keyOf, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { child, children, malformed, parseXml, type XmlElement } from "../wire/xml-read.ts";
import { element, rootElement } from "../wire/xml-write.ts";
import { computed, copyResult, openCopySource } from "./copy-object.ts";

/** Ten thousand parts with ETag and checksum. */
const MAX_COMPLETE_BYTES = 2 * 2 ** 20;

export async function createMultipartUpload(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const upload = await call.store.uploads.create(bucket, {
    key: keyOf(call),
    ...labelsOf(call),
    ...checksumPlan(call),
  });
  const { checksumAlgorithm, checksumType } = upload;
  call.reply.xml(
    200,
    rootElement("InitiateMultipartUploadResult", [
      element("Bucket", bucket.facts.name),
      element("Key", upload.key),
      element("UploadId", upload.uploadId),
    ]),
    checksumAlgorithm ? { "x-amz-checksum-algorithm": checksumAlgorithm, "x-amz-checksum-type": checksumType } : {},
  );
}

export async function uploadPart(call: S3Call): Promise<void> {
  const upload = await uploadOf(call);
  const partNumber = partNumberOf(call);
  const meta = await call.store.uploads.putPart(bucketOf(call), upload, { partNumber, ...checkedBody(call) });
  const { "x-amz-checksum-type": _, ...checksums } = checksumHeaders(meta.checksums, meta.checksumType);
  call.reply.empty(200, { ETag: `"${meta.etag}"`, ...checksums, "Content-Length": 0 });
}

export async function uploadPartCopy(call: S3Call): Promise<void> {
  const upload = await uploadOf(call);
  const partNumber = partNumberOf(call);
  await using source = await openCopySource(call);
  const wanted = call.request.header("x-amz-copy-source-range");
  const range = parseRange(wanted, source.meta.size);
  if (wanted !== undefined && range === undefined)
    throw new S3Error("InvalidArgument", {
      message: "The x-amz-copy-source-range value must be of the form bytes=first-last",
      details: { ArgumentName: "x-amz-copy-source-range", ArgumentValue: wanted },
    });
  await call.reply.whenDone(async () => {
    const meta = await call.store.uploads.putPart(bucketOf(call), upload, {
      partNumber,
      body: range ? source.stream(range.first, range.last) : source.stream(),
      size: range ? range.last - range.first + 1 : source.meta.size,
      digest: [],
      accept: (received) => computed(received, []),
    });
    return { markup: rootElement("CopyPartResult", copyResult(meta)) };
  });
}

export async function completeMultipartUpload(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const key = keyOf(call);
  const uploadId = call.request.query.get("uploadId") ?? "";
  const parts = parseParts(await readSmallBody(call, MAX_COMPLETE_BYTES, "object"));
  const [claims, precondition] = [claimsOf(call), writePrecondition(call)];
  await call.reply.whenDone(async () => {
    const meta = await call.store.uploads.complete(bucket, key, uploadId, parts, claims, precondition);
    const checksums = Object.entries(meta.checksums).map(([name, value]) => element(`Checksum${name}`, value));
    return {
      markup: rootElement("CompleteMultipartUploadResult", [
        element("Location", `http://${call.request.header("host") ?? ""}/${bucket.facts.name}/${encodeURI(key)}`),
        element("Bucket", bucket.facts.name),
        element("Key", key),
        element("ETag", `"${meta.etag}"`),
        checksums,
        element("ChecksumType", checksums.length > 0 ? meta.checksumType : undefined),
      ]),
    };
  });
}

export async function abortMultipartUpload(call: S3Call): Promise<void> {
  await call.store.uploads.abort(bucketOf(call), keyOf(call), call.request.query.get("uploadId") ?? "");
  call.reply.empty(204);
}

/** The request's upload. @throws StoreError no_such_upload */
export async function uploadOf(call: S3Call): Promise<UploadFacts> {
  const uploadId = call.request.query.get("uploadId") ?? "";
  return await call.store.uploads.find(bucketOf(call), keyOf(call), uploadId);
}

function partNumberOf(call: S3Call): number {
  return integerOf(call, "partNumber", { min: 1, max: MAX_PARTS, fallback: 0 }) || missingPartNumber();
}

function missingPartNumber(): never {
  throw new S3Error("InvalidArgument", {
    message: `Part number must be an integer between 1 and ${MAX_PARTS}, inclusive`,
    details: { ArgumentName: "partNumber" },
  });
}

function checksumPlan(call: S3Call): Pick<UploadFacts, "checksumAlgorithm" | "checksumType"> {
  const name = call.request.header("x-amz-checksum-algorithm");
  const type = call.request.header("x-amz-checksum-type");
  if (type !== undefined && type !== "FULL_OBJECT" && type !== "COMPOSITE")
    throw new S3Error("InvalidRequest", { message: "Value for x-amz-checksum-type header is invalid." });
  if (name === undefined) {
    if (type !== undefined)
      throw new S3Error("InvalidRequest", {
        message: "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
      });
    return { checksumType: "COMPOSITE" };
  }
  const algorithm = checksumAlgorithm(name);
  // Only CRCs can be put together from parts in S3, and CRC64NVME is always of the whole object.
  const forced = algorithm === "CRC64NVME" ? "FULL_OBJECT" : algorithm.startsWith("CRC") ? undefined : "COMPOSITE";
  if (type !== undefined && forced !== undefined && type !== forced)
    throw new S3Error("InvalidRequest", {
      message: `The ${type} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`,
    });
  return { checksumAlgorithm: algorithm, checksumType: type ?? forced ?? "COMPOSITE" };
}

function parseParts(body: Buffer): CompletedPart[] {
  const root = parseXml(body);
  const parts = children(root, "Part");
  if (root.name !== "CompleteMultipartUpload" || parts.length === 0 || parts.length > MAX_PARTS) throw malformed();
  return parts.map(parsePart);
}

function parsePart(part: XmlElement): CompletedPart {
  const number = child(part, "PartNumber")?.text.trim() ?? "";
  const etag = child(part, "ETag")?.text.trim();
  if (!/^\d{1,5}$/.test(number) || etag === undefined) throw malformed();
  const partNumber = Number(number);
  if (partNumber < 1 || partNumber > MAX_PARTS) return missingPartNumber();
  const checksums: Checksums = Object.fromEntries(
    CHECKSUM_ALGORITHMS.flatMap((algorithm) => {
      const value = child(part, `Checksum${algorithm}`)?.text.trim();
      return value === undefined ? [] : [[algorithm, value]];
    }),
  );
  return { partNumber, etag: etag.replace(/^"(.*)"$/, "$1"), checksums };
}

function claimsOf(call: S3Call): WholeObjectClaims {
  const size = call.request.header("x-amz-mp-object-size");
  if (size !== undefined && !/^\d{1,15}$/.test(size))
    throw new S3Error("InvalidRequest", { message: "Value for x-amz-mp-object-size header is invalid." });
  const checksums = Object.fromEntries(
    CHECKSUM_ALGORITHMS.flatMap((algorithm) => {
      const value = call.request.header(headerOf(algorithm));
      return value === undefined ? [] : [[algorithm, value]];
    }),
  );
  return { checksums, ...(size === undefined ? {} : { size: Number(size) }) };
}
