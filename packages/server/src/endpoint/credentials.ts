import { type HeaderLines, listOf, valuesOf } from "./header-lines.ts";
import { INVALID_PORT, Refused } from "./refusal.ts";

/** What a request shows to be let in, and to which port. */
export interface Credentials {
  /** Not yet verified. Undefined: none, or more than one. */
  readonly token: string | undefined;
  /** As written; undefined means the default. */
  readonly port: string | undefined;
}

export const DEFAULT_PORT = 8080;
/** The marker that a browser's WebSocket offers to speak to the endpoint itself. */
export const PLATFORM_PROTOCOL = "lambda-microvms";
const TOKEN_PREFIX = `${PLATFORM_PROTOCOL}.authentication.`;
const PORT_PREFIX = `${PLATFORM_PROTOCOL}.port.`;

/** Headers come first; WebSocket subprotocols, for browsers, which cannot set headers, second. */
export function credentialsOf(lines: HeaderLines, upgrade: boolean): Credentials {
  const offered = upgrade ? listOf(lines, "sec-websocket-protocol") : [];
  // Without the marker the other two mean nothing.
  const platform = offered.includes(PLATFORM_PROTOCOL) ? offered : [];
  return {
    token: onlyOne(valuesOf(lines, "x-aws-proxy-auth")) ?? onlyOne(suffixes(platform, TOKEN_PREFIX)),
    port: joined(valuesOf(lines, "x-aws-proxy-port")) ?? joined(suffixes(platform, PORT_PREFIX)),
  };
}

/** @throws Refused unless it is one number from 1 to 65535 */
export function parsePort(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PORT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw new Refused(INVALID_PORT, "the port is not a number from 1 to 65535");
  return port;
}

export function isPlatformProtocol(protocol: string): boolean {
  return protocol === PLATFORM_PROTOCOL || protocol.startsWith(TOKEN_PREFIX) || protocol.startsWith(PORT_PREFIX);
}

const suffixes = (values: readonly string[], prefix: string): string[] =>
  values.filter((value) => value.startsWith(prefix)).map((value) => value.slice(prefix.length));
/** Several tokens are none: which of them would count? An empty string stays, so that a header still comes first. */
const onlyOne = (values: readonly string[]): string | undefined => (values.length > 1 ? "" : values[0]);
/** Several ports are no number any more. */
const joined = (values: readonly string[]): string | undefined => (values.length === 0 ? undefined : values.join(","));
