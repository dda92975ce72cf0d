import { isPlatformProtocol, PLATFORM_PROTOCOL } from "./credentials.ts";
import { type HeaderLines, linesOf, listOf, valuesOf } from "./header-lines.ts";
import type { RequestHead } from "./request-head.ts";

/** What ends at each hop. Source: RFC 9110 §7.6.1. */
const HOP_BY_HOP = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);
/** A `Connection` line cannot remove these: that would change where the message ends, or whom it is for. */
const NOT_REMOVABLE = new Set(["host", "content-length", "transfer-encoding"]);
/** Methods whose requests have no body unless they say so; others without one say `Content-Length: 0`. */
const USUALLY_BODILESS = new Set(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"]);
/** What a trailer must not say. Source: RFC 9110 §6.5.1. */
const NO_TRAILER = new Set([
  "authorization",
  "cache-control",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "cookie",
  "expect",
  "host",
  "max-forwards",
  "range",
  "set-cookie",
  "te",
  "trailer",
]);

/** The request's header lines for the app: order, case and duplicates kept, everything between us and the client gone. */
export function linesForApp(head: RequestHead, requestId: string, upgrade: string | undefined): string[] {
  const removed = namedByConnection(head.lines);
  const kept: string[] = [];
  let protocolsDone = false;
  for (const [name, value] of linesOf(head.lines)) {
    const lower = name.toLowerCase();
    if (lower === "transfer-encoding") kept.push(name, "chunked");
    else if (lower === "sec-websocket-protocol") {
      const protocols = listOf(head.lines, lower).filter((protocol) => !isPlatformProtocol(protocol));
      if (!protocolsDone && protocols.length > 0) kept.push(name, protocols.join(", "));
      protocolsDone = true;
    } else if (!isOurs(lower) && !HOP_BY_HOP.has(lower) && !removed.has(lower) && lower !== "x-amzn-requestid") {
      if (lower !== "trailer" || head.body === "chunked") kept.push(name, value);
    }
  }
  if (head.body === "none" && !USUALLY_BODILESS.has(head.method) && valuesOf(kept, "content-length").length === 0)
    kept.push("Content-Length", "0");
  kept.push("x-amzn-requestid", requestId);
  if (upgrade !== undefined) return [...kept, "Connection", "Upgrade", "Upgrade", upgrade];
  // Trailers pass both ways, so the client's word that it takes them holds for us too.
  if (listOf(head.lines, "te").some((coding) => coding.toLowerCase() === "trailers"))
    return [...kept, "TE", "trailers", "Connection", "TE"];
  // Also where we close after the answer: an app that is asked to may do so too early, while the rest of the request
  // comes in, and its answer would be lost with the connection.
  return [...kept, "Connection", "keep-alive"];
}

/** The whole head for an app that is asked in HTTP/2: pseudo-headers, then the lines, names in lower case. */
export function linesForHttp2App(head: RequestHead, requestId: string): string[] {
  const removed = namedByConnection(head.lines);
  const kept = [":method", head.method, ":scheme", "http"];
  kept.push(":authority", valuesOf(head.lines, "host")[0] ?? head.host, ":path", head.target);
  for (const [name, value] of linesOf(head.lines)) {
    const lower = name.toLowerCase();
    if (lower === "host" || isOurs(lower) || HOP_BY_HOP.has(lower) || removed.has(lower)) continue;
    if (lower === "x-amzn-requestid" || lower === "sec-websocket-protocol") continue;
    if (lower !== "trailer" || head.body === "chunked") kept.push(lower, value);
  }
  kept.push("x-amzn-requestid", requestId);
  if (listOf(head.lines, "te").some((coding) => coding.toLowerCase() === "trailers")) kept.push("te", "trailers");
  return kept;
}

/** Names as HTTP/2 has them. */
export function linesForHttp2(lines: HeaderLines): string[] {
  return lines.map((text, i) => (i % 2 === 0 ? text.toLowerCase() : text));
}

/**
 * The answer's header lines for the client. Its framing is ours, except for a length that the app gave.
 * @param mayTrail trailers can follow
 */
export function linesForClient(lines: HeaderLines, status: number, mayTrail: boolean): string[] {
  const removed = namedByConnection(lines);
  const chunked = valuesOf(lines, "transfer-encoding").length > 0;
  const kept: string[] = [];
  for (const [name, value] of linesOf(lines)) {
    const lower = name.toLowerCase();
    if (isOurs(lower) || HOP_BY_HOP.has(lower) || removed.has(lower)) continue;
    if (lower === "trailer" && !mayTrail) continue;
    if (lower === "content-length" && (status === 204 || chunked)) continue;
    kept.push(name, value);
  }
  return kept;
}

/** Header lines of a 101 answer. A client that offered our marker needs a subprotocol in return. */
export function linesForUpgradedClient(lines: HeaderLines, request: HeaderLines): string[] {
  const kept = linesForClient(lines, 101, false).filter((_, i, all) => {
    const name = all[i - (i % 2)]?.toLowerCase();
    return name !== "content-length";
  });
  const upgrade = valuesOf(lines, "upgrade")[0];
  if (upgrade !== undefined) kept.push("Upgrade", upgrade);
  kept.push("Connection", "Upgrade");
  const offered = listOf(request, "sec-websocket-protocol").includes(PLATFORM_PROTOCOL);
  if (offered && valuesOf(kept, "sec-websocket-protocol").length === 0)
    kept.push("Sec-WebSocket-Protocol", PLATFORM_PROTOCOL);
  return kept;
}

/** Trailer lines that may go on. */
export function trailersToRelay(lines: HeaderLines): string[] {
  const kept: string[] = [];
  for (const [name, value] of linesOf(lines)) {
    const lower = name.toLowerCase();
    if (isOurs(lower) || HOP_BY_HOP.has(lower) || NO_TRAILER.has(lower) || lower === "x-amzn-requestid") continue;
    kept.push(name, value);
  }
  return kept;
}

/** Between client and endpoint only: tokens and ports on the way in, our own errors on the way out. */
const isOurs = (lowerName: string): boolean => lowerName.startsWith("x-aws-proxy-");

function namedByConnection(lines: HeaderLines): Set<string> {
  const names = listOf(lines, "connection").map((name) => name.toLowerCase());
  return new Set(names.filter((name) => !NOT_REMOVABLE.has(name)));
}
