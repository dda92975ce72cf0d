import type { BlobSource } from "./blob-store.ts";
import { BlobError } from "./blob-store.ts";
import type { FileStore } from "./file-store.ts";
import { StoreError } from "./store/store-error.ts";

/** The embedded store as a source of artifacts: another account's buckets are as closed as on the wire. */
export function fileBlobSource(store: FileStore): BlobSource {
  return {
    async open(accountId, bucket, key, signal) {
      signal.throwIfAborted();
      try {
        const object = await store.bucket(bucket, accountId).open(key);
        const body = object.stream();
        const abort = (): void => void body.destroy(asError(signal.reason));
        signal.addEventListener("abort", abort, { once: true });
        // Whoever reads learns of an error by reading; until then it must not end the process.
        body.on("error", () => {}).once("close", () => signal.removeEventListener("abort", abort));
        if (signal.aborted) abort();
        return { size: object.meta.size, body };
      } catch (err) {
        throw toBlobError(err);
      }
    },
  };
}

function toBlobError(err: unknown): BlobError {
  if (err instanceof StoreError) {
    if (err.code === "no_such_bucket") return new BlobError("S3_NO_SUCH_BUCKET", err.message, { cause: err });
    if (err.code === "no_such_key" || err.code === "invalid_key")
      return new BlobError("S3_NO_SUCH_KEY", err.message, { cause: err });
    if (err.code === "denied") return new BlobError("S3_ACCESS_DENIED", err.message, { cause: err });
  }
  return new BlobError("INTERNAL_PLATFORM_ERROR", "The object could not be read.", { cause: err });
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)));
