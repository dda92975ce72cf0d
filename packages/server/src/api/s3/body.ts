import type { IncomingMessage } from "node:http";
import {
  CHECKSUM_ALGORITHMS,
  type ChecksumAlgorithm,
  type Checksums,
  createChecksum,
  DIGEST_BYTES,
  isChecksumAlgorithm,
} from "../../blobs/checksum.ts";
import type { Received } from "../../blobs/store/staging.ts";
import type { S3Call } from "./s3-call.ts";
import { S3Error } from "./s3-error.ts";
import { createChunkVerifier } from "./wire/chunk-signature.ts";
import { decodeChunks, type Trailer } from "./wire/chunked.ts";

/** A body together with all that the request says of it. */
export interface CheckedBody {
  /** Throws when it is cut, or a chunk's signature is wrong. */
  readonly body: AsyncIterable<Buffer>;
  readonly size: number;
  /** What `accept` needs to have been computed. */
  readonly digest: readonly ChecksumAlgorithm[];
  /** Compares. Returns the checksums that the client gave, now known to be right. @throws S3Error */
  accept(received: Received): Checksums;
}

/** A connection on which nothing moves for so long is cut while a body is awaited. */
const BODY_IDLE_MS = 60_000;

type Payload =
  | { readonly form: "plain"; readonly sha256?: string }
  | { readonly form: "chunked"; readonly signed: boolean; readonly trailer: boolean };

/**
 * Nothing is read yet.
 * @param checksumsOf whose the checksum headers are; `object` where the body only speaks of one
 * @throws S3Error when the headers cannot be right
 */
export function checkedBody(call: S3Call, checksumsOf: "body" | "object" = "body"): CheckedBody {
  const payload = payloadOf(call.auth.payloadHash);
  const expected = checksumsOf === "body" ? checksumHeaders(call) : new Map<ChecksumAlgorithm, string>();
  const trailerName = payload.form === "chunked" && payload.trailer ? announcedTrailer(call) : undefined;
  if (checksumsOf === "body") requireAnnounced(call, [...expected.keys()], trailerName);
  const size = sizeOf(call, payload);
  const keep = new Map(expected);
  const contentMd5 = md5Header(call);
  const sha256 = payload.form === "plain" ? payload.sha256 : undefined;

  const onTrailers = (trailers: readonly Trailer[]): void => {
    const [name, value] = trailers[0] ?? [];
    if (trailers.length > 1 || name !== trailerName) throw new S3Error("MalformedTrailerError");
    if (name !== undefined && value !== undefined) keep.set(algorithmOf(name), checksumValue(name, value));
  };

  return {
    body: readBody(call, payload, size, onTrailers),
    size,
    digest: [
      ...expected.keys(),
      ...(trailerName === undefined ? [] : [algorithmOf(trailerName)]),
      ...(sha256 === undefined ? [] : (["SHA256"] as const)),
      ...(contentMd5 === undefined ? [] : (["MD5"] as const)),
    ],
    accept({ size: actual, digests }) {
      if (actual !== size) throw new S3Error("IncompleteBody");
      const digest = (algorithm: ChecksumAlgorithm): Buffer => {
        const bytes = digests.get(algorithm);
        if (!bytes) throw new Error(`${algorithm} was not computed`);
        return bytes;
      };
      if (sha256 !== undefined && digest("SHA256").toString("hex") !== sha256)
        throw new S3Error("XAmzContentSHA256Mismatch", {
          details: {
            ClientComputedContentSHA256: sha256,
            S3ComputedContentSHA256: digest("SHA256").toString("hex"),
          },
        });
      if (contentMd5 !== undefined && digest("MD5").toString("base64") !== contentMd5)
        throw new S3Error("BadDigest", { message: "The Content-MD5 you specified did not match what we received." });
      for (const [algorithm, value] of keep)
        if (digest(algorithm).toString("base64") !== value)
          throw new S3Error("BadDigest", {
            message: `The ${algorithm} you specified did not match the calculated checksum.`,
          });
      return Object.fromEntries(keep);
    },
  };
}

/** A small body, whole and verified. @throws S3Error MaxMessageLengthExceeded, and as checkedBody */
export async function readSmallBody(
  call: S3Call,
  maxBytes: number,
  checksumsOf: "body" | "object" = "body",
): Promise<Buffer> {
  // A document without length and hash is no document: some clients send neither with an empty body.
  if (call.request.header("content-length") === undefined && call.request.header("transfer-encoding") === undefined)
    return Buffer.alloc(0);
  const checked = checkedBody(call, checksumsOf);
  if (checked.size > maxBytes) throw new S3Error("MaxMessageLengthExceeded");
  const checksums = new Map(checked.digest.map((algorithm) => [algorithm, createChecksum(algorithm)]));
  const chunks: Buffer[] = [];
  for await (const chunk of checked.body) {
    for (const checksum of checksums.values()) checksum.update(chunk);
    chunks.push(chunk);
  }
  const whole = Buffer.concat(chunks);
  const digests = new Map([...checksums].map(([algorithm, checksum]) => [algorithm, checksum.digest()]));
  checked.accept({ size: whole.length, digests });
  return whole;
}

function checksumHeaders(call: S3Call): Map<ChecksumAlgorithm, string> {
  const found = new Map<ChecksumAlgorithm, string>();
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const name = headerOf(algorithm);
    const value = call.request.header(name);
    if (value !== undefined) found.set(algorithm, checksumValue(name, value));
  }
  if (found.size > 1)
    throw new S3Error("InvalidRequest", {
      message: "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    });
  return found;
}

export const headerOf = (algorithm: ChecksumAlgorithm): string => `x-amz-checksum-${algorithm.toLowerCase()}`;

/** @throws S3Error for one that is not known */
export function checksumAlgorithm(text: string): ChecksumAlgorithm {
  const name = text.toUpperCase();
  if (!isChecksumAlgorithm(name))
    throw new S3Error("InvalidRequest", {
      message: `Checksum algorithm provided is unsupported. Please try again with any of the valid types: [${CHECKSUM_ALGORITHMS.join(", ")}]`,
    });
  return name;
}

function payloadOf(hash: string): Payload {
  switch (hash) {
    case "UNSIGNED-PAYLOAD":
      return { form: "plain" };
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
      return { form: "chunked", signed: true, trailer: false };
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
      return { form: "chunked", signed: true, trailer: true };
    case "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
      return { form: "chunked", signed: false, trailer: true };
  }
  if (/^[0-9a-f]{64}$/.test(hash)) return { form: "plain", sha256: hash };
  throw new S3Error("InvalidArgument", {
    message:
      "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
  });
}

async function* readBody(
  call: S3Call,
  payload: Payload,
  size: number,
  onTrailers: (trailers: readonly Trailer[]) => void,
): AsyncGenerator<Buffer> {
  const incoming = call.incoming;
  call.reply.wantBody();
  incoming.setTimeout(BODY_IDLE_MS);
  const raw = rawBody(incoming);
  if (payload.form === "plain") yield* raw;
  else {
    const verifier = payload.signed ? { verifier: createChunkVerifier(call.auth) } : {};
    yield* decodeChunks(raw, { decodedLength: size, onTrailers, ...verifier });
  }
  incoming.setTimeout(0);
}

/** Leaves the request usable when it is not read to its end, so that an answer can be sent. */
async function* rawBody(incoming: IncomingMessage): AsyncGenerator<Buffer> {
  for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
    if (!Buffer.isBuffer(chunk)) throw new Error("the body has been given an encoding");
    yield chunk;
  }
}

function sizeOf(call: S3Call, payload: Payload): number {
  const name = payload.form === "chunked" ? "x-amz-decoded-content-length" : "content-length";
  const text = call.request.header(name);
  if (text === undefined) throw new S3Error("MissingContentLength");
  if (!/^\d{1,15}$/.test(text))
    throw new S3Error("InvalidArgument", { message: `The ${name} header must be a number of bytes.` });
  return Number(text);
}

function announcedTrailer(call: S3Call): string | undefined {
  const name = call.request.header("x-amz-trailer")?.trim().toLowerCase();
  if (name !== undefined) algorithmOf(name);
  return name;
}

function requireAnnounced(call: S3Call, given: readonly ChecksumAlgorithm[], trailer: string | undefined): void {
  const announced = call.request.header("x-amz-sdk-checksum-algorithm");
  if (announced === undefined) return;
  const algorithm = checksumAlgorithm(announced);
  if (given.length === 0 && trailer === undefined && call.request.header("content-md5") === undefined)
    throw new S3Error("InvalidRequest", {
      message:
        "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
    });
  if (
    given.length + (trailer === undefined ? 0 : 1) > 0 &&
    !given.includes(algorithm) &&
    trailer !== headerOf(algorithm)
  )
    throw new S3Error("InvalidRequest", { message: "Value for x-amz-sdk-checksum-algorithm header is invalid." });
}

/** @throws S3Error when the header is not the name of a checksum that is known */
function algorithmOf(headerName: string): ChecksumAlgorithm {
  const algorithm = headerName.replace(/^x-amz-checksum-/, "").toUpperCase();
  if (!headerName.startsWith("x-amz-checksum-") || !isChecksumAlgorithm(algorithm))
    throw new S3Error("InvalidRequest", {
      message: "The value specified in the x-amz-trailer header is not supported",
    });
  return algorithm;
}

function checksumValue(headerName: string, value: string): string {
  const bytes = Buffer.from(value, "base64");
  if (bytes.length !== DIGEST_BYTES[algorithmOf(headerName)] || bytes.toString("base64") !== value)
    throw new S3Error("InvalidRequest", { message: `Value for ${headerName} header is invalid.` });
  return value;
}

function md5Header(call: S3Call): string | undefined {
  const value = call.request.header("content-md5");
  if (value === undefined) return undefined;
  const bytes = Buffer.from(value, "base64");
  if (bytes.length !== DIGEST_BYTES.MD5 || bytes.toString("base64") !== value) throw new S3Error("InvalidDigest");
  return value;
}
