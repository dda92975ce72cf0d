import type { IncomingHttpHeaders } from "node:http";
import type { AccessKey } from "../../control/request-context.ts";

/** What a signature covers, as it came over the wire. */
export interface SignedRequest {
  readonly method: string;
  /** Path and query exactly as in the request line. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** As Node gives them: name, value, name, value; for finding duplicates. */
  readonly rawHeaders: readonly string[];
}

export interface Authenticated {
  readonly key: AccessKey;
  /** Credential scope. */
  readonly region: string;
  readonly service: string;
  /**
   * What the signature says of the body: a lower-case hex sha256 that the body must have, or one of the literals
   * `UNSIGNED-PAYLOAD`, `STREAMING-…`.
   */
  readonly payloadHash: string;
  /** For chunk signatures (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD…`). */
  readonly signingKey: Uint8Array;
  readonly signature: string;
  /** `20260915T143000Z` */
  readonly timestamp: string;
  /** `20260915/us-east-1/s3/aws4_request` */
  readonly scope: string;
}
