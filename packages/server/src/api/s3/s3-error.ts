import { StoreError, type StoreErrorCode } from "../../blobs/store/store-error.ts";
import { TorporError } from "../../lib/errors.ts";
import { SignatureError, type SignatureFailure } from "../sigv4/signature-error.ts";

/** S3's codes with their status and S3's own sentence. Source: the API reference's list of error responses. */
const CATALOGUE = {
  AccessControlListNotSupported: [400, "The bucket does not allow ACLs"],
  AccessDenied: [403, "Access Denied"],
  AuthorizationHeaderMalformed: [400, "The authorization header that you provided is not valid."],
  BadDigest: [400, "The Content-MD5 or checksum value that you specified did not match what the server received."],
  BucketAlreadyExists: [
    409,
    "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.",
  ],
  BucketAlreadyOwnedByYou: [409, "Your previous request to create the named bucket succeeded and you already own it."],
  BucketNotEmpty: [409, "The bucket you tried to delete is not empty"],
  EntityTooLarge: [400, "Your proposed upload exceeds the maximum allowed size"],
  EntityTooSmall: [400, "Your proposed upload is smaller than the minimum allowed size"],
  ExpiredToken: [400, "The provided token has expired."],
  IllegalLocationConstraintException: [
    400,
    "The specified location constraint is incompatible for the region specific endpoint this request was sent to.",
  ],
  IncompleteBody: [400, "The request body terminated unexpectedly"],
  InsufficientStorage: [507, "There is not enough space on the disk to store the object."],
  InternalError: [500, "We encountered an internal error. Please try again."],
  InvalidAccessKeyId: [403, "The AWS Access Key Id you provided does not exist in our records."],
  InvalidArgument: [400, "Invalid Argument"],
  InvalidBucketName: [400, "The specified bucket is not valid."],
  InvalidChunkSizeError: [400, "Only the last chunk is allowed to have a size less than 8192 bytes"],
  InvalidDigest: [400, "The Content-MD5 you specified is not valid."],
  InvalidPart: [
    400,
    "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
  ],
  InvalidPartOrder: [400, "The list of parts was not in ascending order. Parts must be ordered by part number."],
  InvalidRange: [416, "The requested range is not satisfiable"],
  InvalidRequest: [400, "Invalid Request"],
  InvalidToken: [400, "The provided token is malformed or otherwise invalid."],
  InvalidURI: [400, "Couldn't parse the specified URI."],
  KeyTooLongError: [400, "Your key is too long"],
  MalformedTrailerError: [
    400,
    "The request contained trailing data that was not well-formed or did not conform to our published schema.",
  ],
  MalformedXML: [400, "The XML you provided was not well-formed or did not validate against our published schema"],
  MaxMessageLengthExceeded: [400, "Your request was too big."],
  MetadataTooLarge: [400, "Your metadata headers exceed the maximum allowed metadata size"],
  MethodNotAllowed: [405, "The specified method is not allowed against this resource."],
  MissingContentLength: [411, "You must provide the Content-Length HTTP header."],
  NoSuchBucket: [404, "The specified bucket does not exist"],
  NoSuchKey: [404, "The specified key does not exist."],
  NoSuchUpload: [
    404,
    "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
  ],
  NoSuchVersion: [404, "The specified version does not exist."],
  NotImplemented: [501, "A header or parameter you provided implies functionality that is not implemented"],
  PreconditionFailed: [412, "At least one of the pre-conditions you specified did not hold"],
  RequestTimeTooSkewed: [403, "The difference between the request time and the current time is too large."],
  ServiceUnavailable: [503, "Please reduce your request rate."],
  SignatureDoesNotMatch: [
    403,
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
  ],
  SlowDown: [503, "Please reduce your request rate."],
  XAmzContentSHA256Mismatch: [400, "The provided 'x-amz-content-sha256' header does not match what was computed."],
} as const satisfies Record<string, readonly [status: number, message: string]>;

export type S3ErrorCode = keyof typeof CATALOGUE;

/** A failure as the wire says it. */
export class S3Error extends Error {
  override readonly name = "S3Error";
  readonly code: string;
  readonly status: number;
  /** Further elements of the error document. */
  readonly details: Readonly<Record<string, string>>;

  constructor(
    code: S3ErrorCode,
    options: { message?: string; details?: Readonly<Record<string, string>>; cause?: unknown } = {},
  ) {
    super(options.message ?? CATALOGUE[code][1], options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = CATALOGUE[code][0];
    this.details = options.details ?? {};
  }
}

const FROM_STORE: Readonly<Record<StoreErrorCode, S3ErrorCode>> = {
  no_such_bucket: "NoSuchBucket",
  no_such_key: "NoSuchKey",
  no_such_upload: "NoSuchUpload",
  denied: "AccessDenied",
  bucket_taken: "BucketAlreadyExists",
  bucket_owned: "BucketAlreadyOwnedByYou",
  bucket_not_empty: "BucketNotEmpty",
  invalid_bucket_name: "InvalidBucketName",
  invalid_key: "InvalidArgument",
  invalid_part: "InvalidPart",
  invalid_part_order: "InvalidPartOrder",
  part_too_small: "EntityTooSmall",
  mismatch: "BadDigest",
  too_large: "EntityTooLarge",
  no_space: "InsufficientStorage",
  precondition_failed: "PreconditionFailed",
};

/** Other words than the signature check's own, which are those of other AWS protocols. */
const FROM_SIGNATURE: Readonly<Record<SignatureFailure, readonly [S3ErrorCode, message?: string]>> = {
  missing: ["AccessDenied"],
  incomplete: ["AuthorizationHeaderMalformed"],
  ambiguous: ["InvalidArgument", "Only one auth mechanism allowed."],
  wrong_scope: ["AuthorizationHeaderMalformed"],
  expired: ["RequestTimeTooSkewed"],
  not_yet_current: ["RequestTimeTooSkewed"],
  presigned_expired: ["AccessDenied", "Request has expired"],
  unknown_key: ["InvalidAccessKeyId"],
  unknown_session_token: ["InvalidToken"],
  expired_key: ["ExpiredToken"],
  unsigned_header: ["AccessDenied", "There were headers present in the request which were not signed"],
  bad_payload_hash: ["InvalidRequest"],
  mismatch: ["SignatureDoesNotMatch"],
  payload_mismatch: ["XAmzContentSHA256Mismatch"],
};

/** What the client is told of `err`; anything unknown is an internal error without details. */
export function toS3Error(err: unknown): S3Error {
  if (err instanceof S3Error) return err;
  if (err instanceof StoreError) {
    const own = err.code === "invalid_key" || err.code === "mismatch" ? { message: err.message } : {};
    return new S3Error(FROM_STORE[err.code], { ...own, cause: err });
  }
  if (err instanceof TorporError && err.kind === "denied")
    return new S3Error("AccessDenied", { message: err.message, cause: err });
  if (err instanceof TorporError && err.kind === "unavailable")
    return new S3Error("ServiceUnavailable", { message: err.message, cause: err });
  if (err instanceof SignatureError) {
    const [code, message] = FROM_SIGNATURE[err.code];
    const useful = code === "AuthorizationHeaderMalformed" || code === "InvalidRequest" ? err.message : message;
    return new S3Error(code, { ...(useful === undefined ? {} : { message: useful }), cause: err });
  }
  if (err instanceof TorporError && err.kind === "throttled")
    return new S3Error("SlowDown", { message: err.message, cause: err });
  return new S3Error("InternalError", { cause: err });
}
