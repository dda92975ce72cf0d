import { timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { AccessKey, AccessKeys } from "../../control/request-context.ts";
import { type Claim, type HeaderLines, headerLines, type QueryPairs, queryPairs, readClaim } from "./authorization.ts";
import {
  canonicalHeaders,
  canonicalPaths,
  canonicalQuery,
  hashCanonicalRequest,
  hmac,
  stringToSign,
} from "./canonical-request.ts";
import { MISMATCH_MESSAGE, SignatureError } from "./signature-error.ts";
import { signingKeyOf } from "./signing-keys.ts";
import { formatTimestamp } from "./timestamp.ts";

/** What a signature covers, as it came over the wire. */
export interface SignedRequest {
  readonly method: string;
  /** Path and query exactly as in the request line. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** As Node gives them: name, value, name, value; for finding duplicates. */
  readonly rawHeaders: readonly string[];
  /**
   * Lower-case hex sha256 of the body, where the caller has it: most services' signers sign it without stating it in
   * x-amz-content-sha256. S3 requests always state it.
   */
  readonly bodySha256?: string;
}

export type SignedService = "lambda" | "s3" | "sts" | "logs";

export interface Authenticated {
  readonly key: AccessKey;
  /** Credential scope. */
  readonly region: string;
  readonly service: SignedService;
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

export interface AuthenticateOptions {
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Any other region in the credential scope is refused. */
  readonly expectedRegion?: string;
  /** Any other service in the credential scope is refused. */
  readonly expectedService?: SignedService;
}

/** How far the signer's clock may be off, as AWS has it. */
const SKEW_MINUTES: Readonly<Record<SignedService, number>> = { lambda: 5, s3: 15, sts: 5, logs: 5 };
const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/** Their values are part of what is signed in any case. */
const COVERED_OTHERWISE = new Set(["x-amz-content-sha256", "x-amz-date"]);

/**
 * Checks an AWS4-HMAC-SHA256 signature, in the Authorization header or in the query (presigned). The signature is
 * computed anew and compared in constant time. The body is not looked at: verifyPayload (payload.ts) does that.
 * @throws SignatureError
 */
export async function authenticate(
  request: SignedRequest,
  keys: AccessKeys,
  options: AuthenticateOptions,
): Promise<Authenticated> {
  const headers = headerLines(request.rawHeaders);
  const query = queryPairs(request.url);
  const claim = readClaim(headers, query);
  if (claim === undefined) throw new SignatureError("missing", "Missing Authentication Token");
  const service = checkScope(claim, options);
  checkTime(claim, SKEW_MINUTES[service], options.now());
  checkSignedHeaders(claim, headers);
  const payloadHash = payloadHashOf(claim, service, headers, query, request.bodySha256);

  const key = await keys.find(claim.accessKeyId);
  if (key === undefined) throw invalidToken("unknown_key");
  if (headers.has("x-amz-security-token") || query.some(([name]) => name === "X-Amz-Security-Token"))
    throw invalidToken("unknown_session_token");

  const scope = `${claim.date}/${claim.region}/${service}/${claim.terminator}`;
  const signingKey = signingKeyOf(key.secretAccessKey, claim.date, claim.region, service);
  const parts = {
    method: request.method,
    query: canonicalQuery(query),
    headers: canonicalHeaders(claim.signedHeaders, headers) ?? mismatch(),
    signedHeaders: claim.signedHeaders.join(";"),
    payloadHash,
  };
  const given = Buffer.from(claim.signature, "hex");
  const matches = canonicalPaths(request.url.split("?", 1)[0]!, service).map((path) => {
    const text = stringToSign(claim.timestamp, scope, hashCanonicalRequest({ ...parts, path }));
    return timingSafeEqual(hmac(signingKey, text), given);
  });
  if (!matches.includes(true)) mismatch();
  if (key.expiresAt !== null && key.expiresAt.getTime() <= options.now())
    throw new SignatureError("expired_key", "The security token included in the request is expired");
  return {
    key,
    region: claim.region,
    service,
    payloadHash,
    signingKey,
    signature: claim.signature,
    timestamp: claim.timestamp,
    scope,
  };
}

function checkScope(claim: Claim, options: AuthenticateOptions): SignedService {
  const wrong = (message: string): SignatureError => new SignatureError("wrong_scope", message);
  if (claim.terminator !== "aws4_request")
    throw wrong("Credential should be scoped with a valid terminator: 'aws4_request'.");
  const { service } = claim;
  if (!isService(service) || (options.expectedService !== undefined && service !== options.expectedService))
    throw wrong(`Credential should be scoped to correct service: '${options.expectedService ?? "lambda"}'.`);
  if (options.expectedRegion !== undefined && claim.region !== options.expectedRegion)
    throw wrong(`Credential should be scoped to a valid region, such as '${options.expectedRegion}'.`);
  const signedOn = claim.timestamp.slice(0, 8);
  if (claim.date !== signedOn)
    throw wrong(
      `Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '${/^\d{8}$/.test(claim.date) ? claim.date : "?"}' != '${signedOn}', from '${claim.timestamp}'.`,
    );
  return service;
}

function checkTime(claim: Claim, skewMinutes: number, now: number): void {
  const skewMs = skewMinutes * 60_000;
  const current = formatTimestamp(now);
  if (claim.signedAtMs > now + skewMs)
    throw new SignatureError(
      "not_yet_current",
      `Signature not yet current: ${claim.timestamp} is still later than ${formatTimestamp(now + skewMs)} (${current} + ${skewMinutes} min.)`,
    );
  if (claim.expiresInSeconds !== undefined) {
    const until = claim.signedAtMs + claim.expiresInSeconds * 1000;
    if (now > until)
      throw new SignatureError(
        "presigned_expired",
        `Signature expired: ${formatTimestamp(until)} is now earlier than ${current}`,
      );
  } else if (claim.signedAtMs < now - skewMs)
    throw new SignatureError(
      "expired",
      `Signature expired: ${claim.timestamp} is now earlier than ${formatTimestamp(now - skewMs)} (${current} - ${skewMinutes} min.)`,
    );
}

function checkSignedHeaders(claim: Claim, headers: HeaderLines): void {
  if (!claim.signedHeaders.includes("host"))
    throw new SignatureError(
      "unsigned_header",
      "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
    );
  for (const name of headers.keys())
    if (name.startsWith("x-amz-") && !COVERED_OTHERWISE.has(name) && !claim.signedHeaders.includes(name))
      throw new SignatureError("unsigned_header", `'${name}' must be a 'SignedHeader' in the AWS Authorization.`);
}

/** What stands for the body in the canonical request. */
function payloadHashOf(
  claim: Claim,
  service: SignedService,
  headers: HeaderLines,
  query: QueryPairs,
  bodySha256: string | undefined,
): string {
  const inQuery = claim.form === "query" ? query.filter(([name]) => /^x-amz-content-sha256$/i.test(name)) : [];
  const stated = [...(headers.get("x-amz-content-sha256") ?? []), ...inQuery.map(([, value]) => value)];
  if (stated.length > 1) throw badPayloadHash("x-amz-content-sha256 must be given once.");
  const [hash] = stated;
  if (hash !== undefined) {
    const literal = service === "s3" && /^(UNSIGNED-PAYLOAD|STREAMING-[A-Z0-9-]{1,64})$/.test(hash);
    if (!literal && !/^[0-9a-f]{64}$/.test(hash))
      throw badPayloadHash(
        "x-amz-content-sha256 must be the lower-case hexadecimal sha256 of the body" +
          (service === "s3" ? ", UNSIGNED-PAYLOAD or STREAMING-AWS4-HMAC-SHA256-PAYLOAD." : "."),
      );
    return hash;
  }
  if (service === "s3") {
    if (claim.form === "query") return "UNSIGNED-PAYLOAD";
    throw badPayloadHash("Missing required header for this request: x-amz-content-sha256");
  }
  return bodySha256 ?? EMPTY_SHA256;
}

const SERVICES: readonly string[] = Object.keys(SKEW_MINUTES);
const isService = (text: string): text is SignedService => SERVICES.includes(text);
const badPayloadHash = (message: string): SignatureError => new SignatureError("bad_payload_hash", message);
const invalidToken = (code: "unknown_key" | "unknown_session_token"): SignatureError =>
  new SignatureError(code, "The security token included in the request is invalid.");
function mismatch(): never {
  throw new SignatureError("mismatch", MISMATCH_MESSAGE);
}
