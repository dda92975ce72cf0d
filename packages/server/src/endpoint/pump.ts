import type { Readable, Writable } from "node:stream";

/** A stream ended before its message did. */
export class CutError extends Error {
  override readonly name = "CutError";
}

/**
 * Passes chunks on as they come and no faster than they are taken. Resolves when `from` has ended; ending `to` is the
 * caller's, who may have trailers to send. Destroys nothing; after an abort it touches neither stream again.
 * @throws CutError, or the error of the stream that failed
 */
export function pump(from: Readable, to: Writable, onChunk: () => void, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (from.readableEnded) return resolve();
    if (from.destroyed || to.destroyed || signal?.aborted) return reject(new CutError("already closed"));
    const onData = (chunk: Buffer): void => {
      onChunk();
      if (!to.write(chunk)) from.pause();
    };
    const onDrain = (): void => void from.resume();
    const onEnd = (): void => settle(resolve);
    const onError = (err: Error): void => settle(() => reject(err));
    const onClose = (): void => settle(() => reject(new CutError("closed before the end")));
    const settle = (how: () => void): void => {
      from.off("data", onData).off("end", onEnd).off("error", onError).off("close", onClose);
      to.off("drain", onDrain).off("error", onError).off("close", onClose);
      signal?.removeEventListener("abort", onClose);
      how();
    };
    from.on("end", onEnd).on("error", onError).on("close", onClose);
    to.on("drain", onDrain).on("error", onError).on("close", onClose);
    signal?.addEventListener("abort", onClose);
    from.on("data", onData);
  });
}
