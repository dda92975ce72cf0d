import type { OutgoingHttpHeaders } from "node:http";
import type { ObjectMeta } from "../../../blobs/store/object-file.ts";
import { checkedBody } from "../body.ts";
import { readCondition, writePrecondition } from "../conditions.ts";
import { checksumHeaders, labelsOf, objectHeaders } from "../object-headers.ts";
import { type ByteRange, parseRange } from "../range.ts";
import { bucketOf, keyOf, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { element, rootElement } from "../wire/xml-write.ts";

export async function putObject(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const meta = await call.store.put(bucket, {
    key: keyOf(call),
    ...labelsOf(call),
    precondition: writePrecondition(call),
    ...checkedBody(call),
  });
  call.reply.empty(200, {
    ETag: `"${meta.etag}"`,
    ...checksumHeaders(meta.checksums, meta.checksumType),
    "Content-Length": 0,
  });
}

export async function getObject(call: S3Call): Promise<void> {
  refusePartNumber(call);
  await using object = await bucketOf(call).open(keyOf(call));
  const { meta } = object;
  if (readCondition(call, meta) === "not_modified") return notModified(call, meta);
  const range = parseRange(call.request.header("range"), meta.size);
  const { status, headers } = head(call, meta, range);
  await call.reply.stream(status, headers, range ? object.stream(range.first, range.last) : object.stream());
}

export async function headObject(call: S3Call): Promise<void> {
  refusePartNumber(call);
  const meta = await bucketOf(call).head(keyOf(call));
  if (readCondition(call, meta) === "not_modified") return notModified(call, meta);
  const { status, headers } = head(call, meta, parseRange(call.request.header("range"), meta.size));
  call.reply.empty(status, headers);
}

export async function deleteObject(call: S3Call): Promise<void> {
  if (call.request.header("if-match") !== undefined)
    throw new S3Error("NotImplemented", { details: { Header: "If-Match" } });
  await bucketOf(call).delete([keyOf(call)]);
  call.reply.empty(204);
}

/** No object has tags; clients ask before they copy one in parts. */
export async function getObjectTagging(call: S3Call): Promise<void> {
  await bucketOf(call).head(keyOf(call));
  call.reply.xml(200, rootElement("Tagging", element("TagSet", "")));
}

function head(
  call: S3Call,
  meta: ObjectMeta,
  range: ByteRange | undefined,
): { status: 200 | 206; headers: OutgoingHttpHeaders } {
  const headers = { ...objectHeaders(meta), ...overrides(call) };
  if (range)
    return {
      status: 206,
      headers: {
        ...headers,
        "Content-Length": range.last - range.first + 1,
        "Content-Range": `bytes ${range.first}-${range.last}/${meta.size}`,
      },
    };
  // A checksum is that of the whole object, so a part is sent without.
  const asked = call.request.header("x-amz-checksum-mode")?.toUpperCase() === "ENABLED";
  const checksums = asked ? checksumHeaders(meta.checksums, meta.checksumType) : {};
  return { status: 200, headers: { ...headers, ...checksums, "Content-Length": meta.size } };
}

const OVERRIDABLE = [
  "Content-Type",
  "Content-Language",
  "Expires",
  "Cache-Control",
  "Content-Disposition",
  "Content-Encoding",
];

/** `response-content-type` and its like: how the signer of a URL wants the object to be served. */
function overrides(call: S3Call): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const name of OVERRIDABLE) {
    const value = call.request.query.get(`response-${name.toLowerCase()}`);
    if (value === undefined) continue;
    if (/[^\t\x20-\x7e]/.test(value)) throw new S3Error("InvalidArgument", { details: { ArgumentName: name } });
    headers[name] = value;
  }
  return headers;
}

function notModified(call: S3Call, meta: ObjectMeta): void {
  const { ETag, "Last-Modified": modified } = objectHeaders(meta);
  call.reply.empty(304, { ETag, "Last-Modified": modified });
}

function refusePartNumber(call: S3Call): void {
  if (call.request.query.has("partNumber"))
    throw new S3Error("NotImplemented", { details: { Parameter: "partNumber" } });
}
