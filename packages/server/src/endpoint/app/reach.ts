import type { GuestVisit } from "../guest-visit.ts";
import { listOf, valuesOf } from "../header-lines.ts";
import type { EndpointLimits } from "../limits.ts";
import { linesForApp, linesForHttp2App } from "../relayed-headers.ts";
import type { RequestHead } from "../request-head.ts";
import type { AppSide, OnInterim } from "./app-side.ts";
import type { GuestConnections } from "./guest-connections.ts";
import { askHttp1, StaleConnection } from "./http1-app.ts";
import { askHttp2 } from "./http2-app.ts";

export interface Reach {
  readonly guest: GuestVisit;
  readonly kept: GuestConnections;
  readonly limits: EndpointLimits;
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly onInterim: OnInterim;
  /** Called with each way that is tried, so that it can be cut. */
  readonly onTry: (app: AppSide) => void;
}

/** Requests that may be sent again when a kept connection turns out to have ended. Source: RFC 9110 §9.2.1. */
const SAFE = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);

/**
 * Hands the request to the app, all but its body: in HTTP/2 where the client says so, in HTTP/1.1 otherwise.
 * @throws Refused; the signal's reason
 */
export async function reachApp(head: RequestHead, to: Reach): Promise<AppSide> {
  const { guest, kept, limits, signal, onInterim } = to;
  if (wantsHttp2(head)) {
    const session = await kept.http2(guest, signal);
    const app = askHttp2(session, linesForHttp2App(head, to.requestId), head.body === "none", limits, onInterim);
    to.onTry(app);
    if (head.body === "none") app.endBody([]);
    return app;
  }

  const request = { method: head.method, target: head.target, lines: linesForApp(head, to.requestId, undefined) };
  const keep = (stream: Parameters<GuestConnections["keep"]>[1]): void => kept.keep(guest, stream);
  if (head.body === "none" && SAFE.has(head.method)) {
    const stream = kept.take(guest);
    if (stream !== undefined) {
      const app = askHttp1({ stream, reused: true, keep }, request, limits, onInterim);
      to.onTry(app);
      app.endBody([]);
      if (!(await isStale(app))) return app;
      signal.throwIfAborted();
    }
  } else kept.drop(guest); // it cannot be sent twice, so it must not meet a connection that may have ended
  const stream = await guest.connect(signal);
  const app = askHttp1({ stream, reused: false, keep }, request, limits, onInterim);
  to.onTry(app);
  if (head.body === "none") app.endBody([]);
  return app;
}

async function isStale(app: AppSide): Promise<boolean> {
  try {
    await app.answer;
    return false;
  } catch (err) {
    return err instanceof StaleConnection;
  }
}

/** The force header is the service's own; gRPC is HTTP/2 whether it is there or not. */
function wantsHttp2(head: RequestHead): boolean {
  if (listOf(head.lines, "x-aws-proxy-force-h2").some((value) => value.toLowerCase() === "true")) return true;
  return (
    head.version === 2 && valuesOf(head.lines, "content-type").some((type) => /^application\/grpc([+;]|$)/i.test(type))
  );
}
