import type { OutgoingHttpHeaders } from "node:http";
import { CHECKSUM_ALGORITHMS, type Checksums } from "../../blobs/checksum.ts";
import type { ObjectLabels } from "../../blobs/file-store.ts";
import type { ObjectMeta } from "../../blobs/store/object-file.ts";
import { headerOf } from "./body.ts";
import type { S3Call } from "./s3-call.ts";
import { S3Error } from "./s3-error.ts";

/** Kept with an object as they came, and sent with it. */
const KEPT = [
  "content-type",
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "expires",
  "x-amz-website-redirect-location",
];
const MAX_METADATA_BYTES = 2048;
const MAX_KEPT_BYTES = 8192;
const DEFAULT_CONTENT_TYPE = "binary/octet-stream";

/** What they ask for is not done here, and leaving it undone in silence would be a lie. */
const REFUSED =
  /^x-amz-(server-side-encryption|object-lock|bucket-object-lock|tagging|grant|copy-source-server-side-encryption)(-|$)|^x-amz-write-offset-bytes$/;

/** @throws S3Error NotImplemented for a wish that is not granted, MetadataTooLarge */
export function labelsOf(call: S3Call): ObjectLabels {
  refuseUnknownWishes(call);
  const headers: [string, string][] = [];
  for (const name of KEPT) {
    const value = name === "content-encoding" ? contentEncoding(call) : call.request.header(name);
    if (value !== undefined && value !== "") headers.push([name, value]);
  }
  const userMetadata = call.request.userMetadata.map(([name, value]): [string, string] => [name, value]);
  const bytes = (pairs: readonly [string, string][]): number => pairs.reduce((n, [a, b]) => n + a.length + b.length, 0);
  if (bytes(userMetadata) > MAX_METADATA_BYTES || bytes(headers) > MAX_KEPT_BYTES)
    throw new S3Error("MetadataTooLarge", { details: { MaxSizeAllowed: String(MAX_METADATA_BYTES) } });
  return { headers, userMetadata };
}

/** @throws S3Error NotImplemented, AccessControlListNotSupported */
export function refuseUnknownWishes(call: S3Call): void {
  const refused = [...Object.keys(call.incoming.headers), ...call.request.query.keys()].find((n) => REFUSED.test(n));
  if (refused !== undefined) throw new S3Error("NotImplemented", { details: { Header: refused } });
  const acl = call.request.header("x-amz-acl");
  if (acl !== undefined && acl !== "private" && acl !== "bucket-owner-full-control")
    throw new S3Error("AccessControlListNotSupported");
}

/** `aws-chunked` is of the transfer, not of the object. */
function contentEncoding(call: S3Call): string | undefined {
  return call.request
    .header("content-encoding")
    ?.split(",")
    .map((coding) => coding.trim())
    .filter((coding) => coding.toLowerCase() !== "aws-chunked")
    .join(",");
}

/** What GET and HEAD say of an object. */
export function objectHeaders(meta: ObjectMeta): OutgoingHttpHeaders {
  return {
    "Last-Modified": new Date(meta.lastModified).toUTCString(),
    ETag: `"${meta.etag}"`,
    "Accept-Ranges": "bytes",
    "Content-Type": DEFAULT_CONTENT_TYPE,
    ...Object.fromEntries(meta.headers.map(([name, value]) => [canonicalName(name), value])),
    ...Object.fromEntries(meta.userMetadata.map(([name, value]) => [`x-amz-meta-${name}`, value])),
  };
}

/** `content-type` as `Content-Type`, so that a kept header replaces a default of ours. */
const canonicalName = (name: string): string =>
  name.startsWith("x-amz-") ? name : name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());

export function checksumHeaders(checksums: Checksums, type: ObjectMeta["checksumType"]): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const value = checksums[algorithm];
    if (value !== undefined) Object.assign(headers, { [headerOf(algorithm)]: value, "x-amz-checksum-type": type });
  }
  return headers;
}
