import type { IncomingMessage } from "node:http";
import { type HeaderLines, linesOf, valuesOf } from "./header-lines.ts";
import type { EndpointLimits } from "./limits.ts";
import { HEADER_TOO_LARGE, MALFORMED, Refused } from "./refusal.ts";

/** A request's head after every check that needs neither a token nor a microvm. */
export interface RequestHead {
  /** The client's HTTP: 1 stands for 1.0, too. */
  readonly version: 1 | 2;
  readonly method: string;
  /** Path and query as they were sent; `*` for OPTIONS. */
  readonly target: string;
  /** As in HTTP/1.1, framing included. */
  readonly lines: HeaderLines;
  /** Lower case, without port and trailing dot. */
  readonly host: string;
  readonly body: "none" | "sized" | "chunked";
}

const HOST = /^([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i;

/**
 * Node's parser has refused bare LF, folded lines, two Content-Lengths, Content-Length with Transfer-Encoding and the
 * like. This refuses what it lets through and two readers could understand in two ways.
 * @throws Refused
 */
export function readHead(req: IncomingMessage, limits: Pick<EndpointLimits, "maxHeaderLines">): RequestHead {
  const lines = req.rawHeaders;
  const { method = "", url: target = "" } = req;
  if (req.httpVersion !== "1.1" && req.httpVersion !== "1.0") throw malformed(`HTTP version ${req.httpVersion}`);
  if (lines.length / 2 > limits.maxHeaderLines) throw new Refused(HEADER_TOO_LARGE, "too many header lines");
  // Absolute form is for proxies that the client chose; a second host in the request line only invites confusion.
  if (!target.startsWith("/") && !(target === "*" && method === "OPTIONS"))
    throw malformed("not an origin-form target");
  return { version: 1, method, target, lines, host: hostOf(lines), body: bodyOf(req) };
}

/** The first label of a name directly below the domain. */
export function labelOf(host: string, domain: string): string | undefined {
  const suffix = `.${domain}`;
  if (!host.endsWith(suffix)) return undefined;
  const label = host.slice(0, -suffix.length);
  return label === "" || label.includes(".") ? undefined : label;
}

function hostOf(lines: HeaderLines): string {
  const hosts = valuesOf(lines, "host");
  const name = hostNameOf(hosts[0] ?? "");
  if (hosts.length !== 1 || name === undefined) throw malformed("not exactly one valid Host");
  return name;
}

/** The name in a Host: lower case, without port and trailing dot; undefined when it is none. */
export function hostNameOf(host: string): string | undefined {
  return HOST.exec(host)?.[1]?.toLowerCase().replace(/\.$/, "");
}

function bodyOf(req: IncomingMessage): RequestHead["body"] {
  const codings = valuesOf(req.rawHeaders, "transfer-encoding");
  const lengths = valuesOf(req.rawHeaders, "content-length");
  if (codings.length > 0) {
    if (codings.length > 1 || codings[0]?.toLowerCase() !== "chunked") throw malformed("odd Transfer-Encoding");
    if (lengths.length > 0) throw malformed("Content-Length with Transfer-Encoding");
    if (req.httpVersion !== "1.1") throw malformed("Transfer-Encoding in HTTP/1.0");
    return "chunked";
  }
  if (lengths.length === 0) return "none";
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0] ?? "")) throw malformed("odd Content-Length");
  return Number(lengths[0]) === 0 ? "none" : "sized";
}

/** True for a request without a body: only then does what follows the head belong to the new protocol. */
export function mayUpgrade(req: IncomingMessage): boolean {
  for (const [name, value] of linesOf(req.rawHeaders)) {
    const lower = name.toLowerCase();
    if (lower === "transfer-encoding" || (lower === "content-length" && Number(value) !== 0)) return false;
  }
  return req.httpVersion === "1.1";
}

const malformed = (what: string): Refused => new Refused(MALFORMED, what);
