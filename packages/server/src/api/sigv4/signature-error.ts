/**
 * Why a request is not believed. The messages are those of AWS's REST-JSON services; other protocols have words of
 * their own and go by the code.
 */
export type SignatureFailure =
  /** Neither an Authorization header nor query authentication. */
  | "missing"
  /** Authentication that cannot be read: a part is absent, malformed or there twice. */
  | "incomplete"
  /** Both an Authorization header and query authentication, or two Authorization headers. */
  | "ambiguous"
  /** The credential scope names another date, region, service or terminator. */
  | "wrong_scope"
  /** Signed too long ago. */
  | "expired"
  /** A presigned URL whose X-Amz-Expires have passed. */
  | "presigned_expired"
  /** Signed in the future. */
  | "not_yet_current"
  /** There is no such key, or it or its account is disabled. */
  | "unknown_key"
  /** The signature is right, and the key's time is over. */
  | "expired_key"
  /** A session token came along; none is ever issued. */
  | "unknown_session_token"
  /** `host`, or an `x-amz-` header that came along, is not among the signed headers. */
  | "unsigned_header"
  /** x-amz-content-sha256 is absent where it is needed, or neither a hash nor a literal that the service takes. */
  | "bad_payload_hash"
  /** The signature is another one than the secret key yields. */
  | "mismatch"
  /** The body is not the one that was signed. */
  | "payload_mismatch";

export class SignatureError extends Error {
  override readonly name = "SignatureError";
  readonly code: SignatureFailure;

  constructor(code: SignatureFailure, message: string) {
    super(message);
    this.code = code;
  }
}

export const MISMATCH_MESSAGE =
  "The request signature we calculated does not match the signature you provided. " +
  "Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
