import type { Readable } from "node:stream";

/** Where artifacts come from: the embedded S3's files, or an external S3. */
export interface BlobSource {
  /**
   * Opens an object for reading, on behalf of an account: one service may keep several apart.
   * @throws BlobError
   */
  open(
    accountId: string,
    bucket: string,
    key: string,
    signal: AbortSignal,
  ): Promise<{ readonly size: number; readonly body: Readable }>;
}

/** Codes as the image service names the failures of its own downloads. */
export class BlobError extends Error {
  override readonly name = "BlobError";
  readonly code:
    | "S3_ACCESS_DENIED"
    | "S3_NO_SUCH_BUCKET"
    | "S3_NO_SUCH_KEY"
    | "S3_INVALID_OBJECT"
    | "INTERNAL_PLATFORM_ERROR";
  constructor(code: BlobError["code"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
