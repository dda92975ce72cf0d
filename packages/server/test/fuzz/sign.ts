import { createHash } from "node:crypto";
import { queryPairs } from "../../src/api/sigv4/authorization.ts";
import {
  canonicalPaths,
  canonicalQuery,
  deriveSigningKey,
  hashCanonicalRequest,
  hmac,
  stringToSign,
} from "../../src/api/sigv4/canonical-request.ts";
import type { Credentials } from "../fake-host/server.ts";

export type Service = "lambda" | "s3";

/**
 * Header lines of a right signature of whatever bytes these are. The SDK's signer cannot: it takes requests that make
 * sense. Whether signatures are checked rightly is not asked here; the server's own functions do.
 */
export function signatureOf(
  { method, target, body }: { readonly method: string; readonly target: string; readonly body: Buffer },
  service: Service,
  { accessKeyId, secretAccessKey, region }: Credentials,
  at: Date,
): readonly (readonly [string, string])[] {
  const timestamp = at.toISOString().replace(/[-:]|\.\d{3}/g, "");
  const date = timestamp.slice(0, 8);
  const payloadHash = createHash("sha256").update(body).digest("hex");
  const scope = `${date}/${region}/${service}/aws4_request`;
  const signedHeaders = "host;x-amz-content-sha256;x-amz-date";
  const canonicalHash = hashCanonicalRequest({
    method,
    path: canonicalPaths(target.split("?", 1)[0]!, service)[0]!,
    query: canonicalQuery(queryPairs(target)),
    headers: `host:localhost\nx-amz-content-sha256:${payloadHash}\nx-amz-date:${timestamp}\n`,
    signedHeaders,
    payloadHash,
  });
  const key = deriveSigningKey(secretAccessKey, date, region, service);
  const signature = hmac(key, stringToSign(timestamp, scope, canonicalHash)).toString("hex");
  return [
    ["host", "localhost"],
    ["x-amz-date", timestamp],
    ["x-amz-content-sha256", payloadHash],
    [
      "authorization",
      `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`,
    ],
  ];
}
