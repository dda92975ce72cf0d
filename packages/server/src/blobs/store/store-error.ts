export type StoreErrorCode =
  | "no_such_bucket"
  | "no_such_key"
  | "no_such_upload"
  /** The bucket is another account's. */
  | "denied"
  /** The name is in use, by another account. */
  | "bucket_taken"
  /** The name is in use, by the same account. */
  | "bucket_owned"
  | "bucket_not_empty"
  | "invalid_bucket_name"
  | "invalid_key"
  | "invalid_part"
  | "invalid_part_order"
  | "part_too_small"
  /** The client's idea of the result differs from what its parts make. */
  | "mismatch"
  | "too_large"
  | "no_space"
  | "precondition_failed";

/** What the file store refuses, by meaning; api/s3 alone knows how S3 says it. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
