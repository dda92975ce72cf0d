import { constants, type Http2Session } from "node:http2";
import type { Clock } from "../lib/clock.ts";
import { TokenBuckets } from "../lib/token-buckets.ts";

/** SETTINGS, and PINGs of a connection that does nothing else: each has to be answered, and moves nothing. */
const IDLE = { perSecond: 10, burst: 100 };
/** PINGs while something is under way: gRPC's libraries send one a round trip to measure the path. */
const BUSY = { perSecond: 10_000, burst: 50_000 };

/**
 * Ends the session when its other side sends control frames without end. Resets Node counts itself, and answers that
 * nobody reads.
 * @param busy whether a request is open
 */
export function endOnFlood(session: Http2Session, clock: Pick<Clock, "monotonic">, busy: () => boolean): void {
  const buckets = new TokenBuckets(clock, 3);
  const count = (frame: string, size: typeof IDLE): void => {
    if (buckets.take(frame, size) === undefined || session.destroyed) return;
    session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  };
  session.on("ping", () => (busy() ? count("busy", BUSY) : count("ping", IDLE)));
  session.on("remoteSettings", () => count("settings", IDLE));
}
