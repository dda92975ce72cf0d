import { type HeaderLines, linesOf } from "../header-lines.ts";
import type { EndpointLimits } from "../limits.ts";
import { EXPECTATION_FAILED, HEADER_TOO_LARGE, MALFORMED, Refused } from "../refusal.ts";
import { hostNameOf, type RequestHead } from "../request-head.ts";

/** What HTTP/2 has no use for, and what could be taken for the framing of HTTP/1.1. Source: RFC 9113 §8.2.2. */
const FORBIDDEN = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
/** A name in lower case, or a pseudo-header's. */
const NAME = /^:?[!#$%&'*+.^_`|~0-9a-z-]+$/;

/**
 * The head as it would have come by HTTP/1.1: `Host` in place of `:authority`, one `Cookie`, framing in lines. Node has
 * refused most of what must not be; this refuses the rest, and does not rely on it.
 * @param ended there is no body
 * @throws Refused
 */
export function readHttp2Head(
  lines: HeaderLines,
  ended: boolean,
  limits: Pick<EndpointLimits, "maxHeaderBytes" | "maxHeaderLines">,
): RequestHead {
  const pseudo = new Map<string, string>();
  const fields: string[] = [];
  const cookies: string[] = [];
  const hosts: string[] = [];
  const lengths: string[] = [];
  let bytes = 0;
  for (const [name, value] of linesOf(lines)) {
    bytes += name.length + value.length + 4; // as a line of HTTP/1.1
    if (/[\0\r\n]/.test(value) || !NAME.test(name)) throw malformed("a header line that cannot be one");
    if (name.startsWith(":")) {
      if (fields.length > 0 || pseudo.has(name)) throw malformed("a pseudo-header twice, or behind others");
      pseudo.set(name, value);
    } else if (FORBIDDEN.has(name)) throw malformed(`${name} in HTTP/2`);
    else if (name === "host") hosts.push(value);
    else if (name === "cookie") cookies.push(value);
    else {
      if (name === "te" && value.toLowerCase() !== "trailers") throw malformed("te other than trailers in HTTP/2");
      if (name === "expect" && value.toLowerCase() !== "100-continue")
        throw new Refused(EXPECTATION_FAILED, "an expectation other than 100-continue");
      if (name === "content-length") lengths.push(value);
      fields.push(name, value);
    }
  }
  if (lines.length / 2 > limits.maxHeaderLines || bytes > limits.maxHeaderBytes)
    throw new Refused(HEADER_TOO_LARGE, "too large a header");
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0] ?? "0")) throw malformed("odd content-length");

  const { method, target, authority } = controlData(pseudo, hosts);
  const host = hostNameOf(authority);
  if (host === undefined) throw malformed("not exactly one valid host");
  const out = ["Host", authority, ...fields];
  if (cookies.length > 0) out.push("Cookie", cookies.join("; ")); // Source: RFC 9113 §8.2.3
  const body = ended || Number(lengths[0] ?? 1) === 0 ? "none" : lengths.length > 0 ? "sized" : "chunked";
  if (body === "chunked") out.push("Transfer-Encoding", "chunked");
  return { version: 2, method, target, lines: out, host, body };
}

function controlData(
  pseudo: ReadonlyMap<string, string>,
  hosts: readonly string[],
): { readonly method: string; readonly target: string; readonly authority: string } {
  const method = pseudo.get(":method") ?? "";
  const target = pseudo.get(":path") ?? "";
  const authority = pseudo.get(":authority") ?? hosts[0] ?? "";
  for (const name of pseudo.keys())
    if (![":method", ":path", ":authority", ":scheme"].includes(name)) throw malformed("an unknown pseudo-header");
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/.test(method) || method === "CONNECT") throw malformed("no method for apps");
  if (!["https", "http"].includes(pseudo.get(":scheme") ?? "")) throw malformed("another scheme");
  if (hosts.length > 1 || (hosts.length === 1 && hosts[0]?.toLowerCase() !== authority.toLowerCase()))
    throw malformed("two hosts");
  if (!/^\/[\x21-\x7e\x80-\xff]*$/.test(target) && !(target === "*" && method === "OPTIONS"))
    throw malformed("not an origin-form target");
  return { method, target, authority };
}

const malformed = (what: string): Refused => new Refused(MALFORMED, what);
