import { createHash, createHmac } from "node:crypto";
import type { HeaderLines, QueryPairs } from "./authorization.ts";
import { decodeBytes, encodeBytes, encodePathBytes } from "./percent.ts";

/**
 * The canonical requests and what follows from them, as
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html has them.
 *
 * They are written here and not taken from a client's signer, because that one starts from a parsed request: it has
 * no place for a query key that comes twice, a path that is not to be touched, or a header line that is repeated.
 */
export interface CanonicalParts {
  readonly method: string;
  /** One of `canonicalPaths`. */
  readonly path: string;
  readonly query: string;
  readonly headers: string;
  readonly signedHeaders: string;
  readonly payloadHash: string;
}

/** Hex sha256 of the canonical request. Its text is one character per byte. */
export function hashCanonicalRequest(parts: CanonicalParts): string {
  const text = [parts.method, parts.path, parts.query, parts.headers, parts.signedHeaders, parts.payloadHash];
  return createHash("sha256").update(text.join("\n"), "latin1").digest("hex");
}

export function stringToSign(timestamp: string, scope: string, canonicalHash: string): string {
  return ["AWS4-HMAC-SHA256", timestamp, scope, canonicalHash].join("\n");
}

export function deriveSigningKey(secretAccessKey: string, date: string, region: string, service: string): Buffer {
  let key: Buffer = hmac(`AWS4${secretAccessKey}`, date);
  for (const part of [region, service, "aws4_request"]) key = hmac(key, part);
  return key;
}

export function hmac(key: string | Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text, "latin1").digest();
}

/**
 * Paths that a right signature may have been made of. S3 takes the path as it was sent or, for signers that encode
 * more than what they send, with every segment encoded once; all other services encode what was sent once more,
 * without dot segments and doubled slashes.
 */
export function canonicalPaths(rawPath: string, service: string): readonly string[] {
  if (service !== "s3") return [encodePathBytes(withoutDotSegments(rawPath))];
  const normalised = rawPath
    .split("/")
    .map((segment) => encodeBytes(decodeBytes(segment)))
    .join("/");
  return normalised === rawPath ? [rawPath] : [rawPath, normalised];
}

/** Sorted by encoded name, then by encoded value; the signature itself left out. */
export function canonicalQuery(pairs: QueryPairs): string {
  return pairs
    .filter(([name]) => name !== "X-Amz-Signature")
    .map(([name, value]) => [encodeBytes(name), encodeBytes(value)] as const)
    .sort(([a, x], [b, y]) => compare(a, b) || compare(x, y))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

/** `name:value` lines, each with its newline; undefined when a signed header is not there. */
export function canonicalHeaders(names: readonly string[], headers: HeaderLines): string | undefined {
  let text = "";
  for (const name of names) {
    const values = headers.get(name);
    if (values === undefined) return undefined;
    text += `${name}:${values.map(collapse).join(",")}\n`;
  }
  return text;
}

function withoutDotSegments(path: string): string {
  const kept: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "..") kept.pop();
    else if (segment !== "" && segment !== ".") kept.push(segment);
  }
  return `${path.startsWith("/") ? "/" : ""}${kept.join("/")}${kept.length > 0 && path.endsWith("/") ? "/" : ""}`;
}

/** Without the spaces around it, and runs of them as one. Other white space is part of the value. */
const collapse = (value: string): string => value.replace(/[ \t]+/g, " ").replace(/^ | $/g, "");

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
