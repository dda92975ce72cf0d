import { MAX_PARTS } from "../../../blobs/store/uploads.ts";
import { accountOf, bucketOf, integerOf, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { element, rootElement } from "../wire/xml-write.ts";
import { encoderOf, MAX_LISTED } from "./list-objects.ts";
import { uploadOf } from "./multipart.ts";

export async function listParts(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const upload = await uploadOf(call);
  const encode = encoderOf(call);
  const after = integerOf(call, "part-number-marker", { min: 0, max: MAX_PARTS, fallback: 0 });
  const asked = integerOf(call, "max-parts", { min: 0, max: 2 ** 31 - 1, fallback: MAX_LISTED });
  const max = Math.min(asked, MAX_LISTED);
  const found = await call.store.uploads.listParts(bucket, upload, after, max + 1);
  const parts = found.slice(0, max);
  const account = element("ID", accountOf(call));
  call.reply.xml(
    200,
    rootElement("ListPartsResult", [
      element("Bucket", bucket.facts.name),
      element("Key", encode(upload.key)),
      element("UploadId", upload.uploadId),
      element("Initiator", account),
      element("Owner", account),
      element("StorageClass", "STANDARD"),
      element("PartNumberMarker", after),
      element("NextPartNumberMarker", parts.at(-1)?.partNumber ?? 0),
      element("MaxParts", max),
      element("EncodingType", call.request.query.get("encoding-type")),
      element("IsTruncated", found.length > max && max > 0),
      element("ChecksumAlgorithm", upload.checksumAlgorithm),
      element("ChecksumType", upload.checksumAlgorithm && upload.checksumType),
      parts.map(({ partNumber, meta }) =>
        element("Part", [
          element("PartNumber", partNumber),
          element("LastModified", new Date(meta.lastModified).toISOString()),
          element("ETag", `"${meta.etag}"`),
          element("Size", meta.size),
          Object.entries(meta.checksums).map(([name, value]) => element(`Checksum${name}`, value)),
        ]),
      ),
    ]),
  );
}

export async function listMultipartUploads(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const { query } = call.request;
  if ((query.get("delimiter") ?? "") !== "")
    throw new S3Error("NotImplemented", { details: { Parameter: "delimiter" } });
  const encode = encoderOf(call);
  const prefix = query.get("prefix") ?? "";
  const keyMarker = query.get("key-marker") ?? "";
  const idMarker = query.get("upload-id-marker") ?? "";
  const asked = integerOf(call, "max-uploads", { min: 0, max: 2 ** 31 - 1, fallback: MAX_LISTED });
  const max = Math.min(asked, MAX_LISTED);
  const marker = Buffer.from(keyMarker);
  const all = (await call.store.uploads.list(bucket)).filter((upload) => {
    if (!upload.key.startsWith(prefix)) return false;
    if (keyMarker === "") return true;
    const order = Buffer.compare(Buffer.from(upload.key), marker);
    return order > 0 || (order === 0 && idMarker !== "" && upload.uploadId > idMarker);
  });
  const page = all.slice(0, max);
  const truncated = all.length > max && max > 0;
  const last = truncated ? page.at(-1) : undefined;
  const account = element("ID", accountOf(call));
  call.reply.xml(
    200,
    rootElement("ListMultipartUploadsResult", [
      element("Bucket", bucket.facts.name),
      element("KeyMarker", encode(keyMarker)),
      element("UploadIdMarker", idMarker),
      element("NextKeyMarker", last && encode(last.key)),
      element("NextUploadIdMarker", last?.uploadId),
      element("Prefix", encode(prefix)),
      element("EncodingType", query.get("encoding-type")),
      element("MaxUploads", max),
      element("IsTruncated", truncated),
      page.map((upload) =>
        element("Upload", [
          element("Key", encode(upload.key)),
          element("UploadId", upload.uploadId),
          element("Initiator", account),
          element("Owner", account),
          element("StorageClass", "STANDARD"),
          element("Initiated", new Date(upload.initiated).toISOString()),
          element("ChecksumAlgorithm", upload.checksumAlgorithm),
          element("ChecksumType", upload.checksumAlgorithm && upload.checksumType),
        ]),
      ),
    ]),
  );
}
