import type { IncomingMessage } from "node:http";
import { RequestError } from "./request-error.ts";

/** Header lines in one request. */
export const MAX_HEADER_LINES = 100;
/** Bytes of request line and header lines together. */
export const MAX_HEADER_BYTES = 32 * 1024;

/**
 * What Node's parser lets through and proxies or parsers further on might read differently. Node itself refuses
 * Content-Length with Transfer-Encoding, two Content-Lengths, folded lines and an absent Host.
 * @returns why the request is refused: then the connection ends, too
 */
export function refusalOf(request: IncomingMessage): RequestError | undefined {
  const names = request.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  const coding = request.headers["transfer-encoding"];
  if (names.length > MAX_HEADER_LINES)
    return new RequestError("too_many_headers", `A request may have ${MAX_HEADER_LINES} header lines.`);
  if (names.filter((name) => name === "host").length > 1)
    return new RequestError("bad_http", "The Host header must be given once.");
  if (!request.url?.startsWith("/"))
    return new RequestError("bad_http", "The request target must be a path, beginning with a slash.");
  if (coding !== undefined && (coding.toLowerCase() !== "chunked" || request.httpVersion === "1.0"))
    return new RequestError("bad_http", "The only Transfer-Encoding accepted is chunked, in HTTP/1.1.");
  return undefined;
}
