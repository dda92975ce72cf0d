import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { Authenticated } from "../../sigv4/sigv4.ts";
import { S3Error } from "../s3-error.ts";
import type { ChunkVerifier, Trailer } from "./chunked.ts";

const EMPTY_SHA256 = createHash("sha256").digest("hex");

/**
 * Each signature covers the one before it, so that chunks cannot be changed, dropped or reordered.
 * Source: AWS, "Signature calculations for the Authorization header: transferring payload in multiple chunks".
 */
export function createChunkVerifier(auth: Authenticated): ChunkVerifier {
  let previous = auth.signature;
  let data = createHash("sha256");

  const check = (given: string, algorithm: string, ...rest: string[]): void => {
    const text = [algorithm, auth.timestamp, auth.scope, previous, ...rest].join("\n");
    const expected = createHmac("sha256", auth.signingKey).update(text).digest();
    const actual = Buffer.from(given, "hex");
    if (actual.length !== expected.length || !timingSafeEqual(actual, expected))
      throw new S3Error("SignatureDoesNotMatch");
    previous = given;
  };

  return {
    update(chunk) {
      data.update(chunk);
    },
    endChunk(signature) {
      check(signature, "AWS4-HMAC-SHA256-PAYLOAD", EMPTY_SHA256, data.digest("hex"));
      data = createHash("sha256");
    },
    endTrailer(trailers: readonly Trailer[], signature) {
      if (trailers.length === 0 && signature === undefined) return;
      const canonical = trailers.map(([name, value]) => `${name}:${value}\n`).join("");
      const hash = createHash("sha256").update(canonical).digest("hex");
      check(signature ?? "", "AWS4-HMAC-SHA256-TRAILER", hash);
    },
  };
}
