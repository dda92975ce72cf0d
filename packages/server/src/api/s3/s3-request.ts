import type { IncomingMessage } from "node:http";
import { isObjectKey, MAX_KEY_BYTES } from "../../blobs/names.ts";
import { S3Error } from "./s3-error.ts";

/** A request line and headers, taken apart as S3 does. */
export interface S3Request {
  readonly method: string;
  readonly bucket?: string;
  readonly key?: string;
  /** Decoded; the first of several wins. */
  readonly query: ReadonlyMap<string, string>;
  /** A header, or for `x-amz-…` the query parameter that a presigner made of it. */
  header(name: string): string | undefined;
  /** Every `x-amz-meta-…`, without that prefix. */
  readonly userMetadata: readonly (readonly [name: string, value: string])[];
}

const MAX_URL_CHARS = 16 * 1024;
const META = "x-amz-meta-";
/** Presigners move them into the query although they describe no body yet. */
const NOT_FROM_QUERY = /^x-amz-(checksum-|sdk-checksum-|content-sha256|trailer|decoded-content-length)/;

/**
 * The path is never normalised: `..`, `//` and `%2e` are characters of a key like any others.
 * @param virtualHostDomain names under it are buckets: `<bucket>.<domain>`
 * @throws S3Error InvalidURI, KeyTooLongError
 */
export function parseS3Request(incoming: IncomingMessage, virtualHostDomain?: string): S3Request {
  const url = incoming.url ?? "";
  if (!url.startsWith("/") || url.length > MAX_URL_CHARS || /[^\x21-\x7e]/.test(url)) throw new S3Error("InvalidURI");
  const mark = url.indexOf("?");
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = parseQuery(mark < 0 ? "" : url.slice(mark + 1));
  const headers = incoming.headers;
  const header = (name: string): string | undefined => {
    const value = headers[name];
    if (value !== undefined) return Array.isArray(value) ? value.join(", ") : value;
    return name.startsWith("x-amz-") && !NOT_FROM_QUERY.test(name) ? query.get(name) : undefined;
  };
  return {
    method: incoming.method ?? "",
    ...splitPath(path, bucketOfHost(headers.host, virtualHostDomain)),
    query,
    header,
    userMetadata: collectMetadata(Object.keys(headers), query, header),
  };
}

function splitPath(path: string, hostBucket: string | undefined): { bucket?: string; key?: string } {
  if (hostBucket !== undefined) return { bucket: hostBucket, ...keyOf(path.slice(1)) };
  const slash = path.indexOf("/", 1);
  const bucket = decode(slash < 0 ? path.slice(1) : path.slice(1, slash));
  if (bucket === "") {
    if (slash >= 0) throw new S3Error("InvalidURI");
    return {};
  }
  return { bucket, ...(slash < 0 ? {} : keyOf(path.slice(slash + 1))) };
}

function keyOf(encoded: string): { key?: string } {
  if (encoded === "") return {};
  const key = decode(encoded);
  if (Buffer.byteLength(key) > MAX_KEY_BYTES)
    throw new S3Error("KeyTooLongError", {
      details: { Size: String(Buffer.byteLength(key)), MaxSizeAllowed: String(MAX_KEY_BYTES) },
    });
  if (!isObjectKey(key))
    throw new S3Error("InvalidArgument", { message: "Object keys must not contain the NUL character." });
  return { key };
}

function bucketOfHost(host: string | undefined, domain: string | undefined): string | undefined {
  if (host === undefined || domain === undefined) return undefined;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : undefined;
}

/** `+` is itself, as in the signature: signers write a space as `%20`. */
function parseQuery(text: string): Map<string, string> {
  const query = new Map<string, string>();
  for (const pair of text.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const name = decode(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? "" : decode(pair.slice(equals + 1));
    if (!query.has(name)) query.set(name, value);
  }
  return query;
}

function collectMetadata(
  headerNames: readonly string[],
  query: ReadonlyMap<string, string>,
  header: (name: string) => string | undefined,
): [string, string][] {
  const names = new Set([...headerNames, ...query.keys()].filter((name) => name.startsWith(META)));
  return [...names].map((name) => [name.slice(META.length), header(name) ?? ""]);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new S3Error("InvalidURI");
  }
}
