import { createHash, timingSafeEqual } from "node:crypto";
import { MISMATCH_MESSAGE, SignatureError } from "./signature-error.ts";
import type { Authenticated } from "./sigv4.ts";

/** Lower-case hex sha256, as a signature states it. */
export function sha256Hex(body: Uint8Array): string {
  return createHash("sha256").update(body).digest("hex");
}

/**
 * The body is the one that was signed. A body that the signature leaves open (`UNSIGNED-PAYLOAD`, `STREAMING-…`) is
 * not accepted: where the service takes those, do not ask this.
 * @throws SignatureError `payload_mismatch`
 */
export function verifyPayload(authenticated: Pick<Authenticated, "payloadHash">, bodySha256: string): void {
  const signed = Buffer.from(authenticated.payloadHash, "latin1");
  const actual = Buffer.from(bodySha256, "latin1");
  if (signed.length !== actual.length || !timingSafeEqual(signed, actual))
    throw new SignatureError("payload_mismatch", MISMATCH_MESSAGE);
}
