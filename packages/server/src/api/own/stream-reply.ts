import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { FastifyReply } from "fastify";
import type { Log } from "../../lib/log.ts";

/**
 * Answers 200 at once and then sends what comes, as fast as the client reads. A source that fails, or is cut off by
 * the signal, ends the connection: a client never takes a part for the whole.
 */
export async function streamReply(
  reply: FastifyReply,
  contentType: string,
  source: AsyncIterable<string>,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  reply.hijack();
  const response = reply.raw;
  for (const [name, value] of Object.entries(reply.getHeaders()))
    if (value !== undefined) response.setHeader(name, value);
  response.writeHead(200, { "content-type": contentType, "cache-control": "no-store" });
  response.flushHeaders();
  try {
    await pipeline(Readable.from(untilAborted(source, signal)), response, { signal });
  } catch (err) {
    response.destroy();
    if (!signal.aborted) log.error({ err }, "stream failed");
  }
}

/** Stops on the signal even where the source itself does not listen to it. */
async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const abort = (): void => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    while (true) {
      const next = await Promise.race([iterator.next(), aborted]);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    // Not awaited: a source that waits for its next item answers only then.
    iterator.return?.().catch(() => {});
  }
}
