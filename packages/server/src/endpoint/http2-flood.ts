import { constants, type Http2Session } from "node:http2";
import type { Clock } from "../lib/clock.ts";
import { TokenBuckets } from "../lib/token-buckets.ts";

/** PINGs and SETTINGS that one side may send: each has to be answered, and moves nothing. */
const CONTROL_FRAMES = { perSecond: 10, burst: 100 };

/** Ends the session when its other side sends control frames without end. Resets and the like Node counts itself. */
export function endOnFlood(session: Http2Session, clock: Pick<Clock, "monotonic">): void {
  const bucket = new TokenBuckets(clock, 1);
  const count = (): void => {
    if (bucket.take("", CONTROL_FRAMES) === undefined || session.destroyed) return;
    session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  };
  session.on("ping", count).on("remoteSettings", count);
}
