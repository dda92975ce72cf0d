import { isIPv4, isIPv6 } from "node:net";

/**
 * The line or block that a proxy puts before a connection's own bytes, to say where it comes from.
 * Source: the PROXY protocol's specification, versions 1 and 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
 */
export interface ProxyHeader {
  /** How many bytes it takes; the connection's own begin behind them. */
  readonly length: number;
  /** Undefined when the proxy speaks for itself: health checks do. */
  readonly client: string | undefined;
}

/** What is there is no header, or one that says something that is not served here. */
export class ProxyHeaderError extends Error {
  override readonly name = "ProxyHeaderError";
}

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const V1 = Buffer.from("PROXY ");
/** With two IPv6 addresses in their longest form, and the end of the line. */
const V1_MOST = 107;
/** Addresses take 36 bytes at most; the rest are a proxy's notes, which nobody reads here. */
const V2_MOST = 2048;

/** @returns undefined while more bytes are needed. @throws ProxyHeaderError */
export function parseProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  if (startsAs(bytes, V1)) return parseLine(bytes);
  if (startsAs(bytes, SIGNATURE)) return parseBlock(bytes);
  throw new ProxyHeaderError("the connection does not begin with a PROXY header");
}

/** As far as there are bytes. */
function startsAs(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.subarray(0, length).equals(start.subarray(0, length));
}

function parseLine(bytes: Buffer): ProxyHeader | undefined {
  const end = bytes.subarray(0, V1_MOST).indexOf("\r\n");
  if (end < 0) {
    if (bytes.length >= V1_MOST) throw new ProxyHeaderError("a PROXY line without an end");
    return undefined;
  }
  const length = end + 2;
  const [, family, from = "", to = "", ...ports] = bytes.toString("latin1", 0, end).split(" ");
  if (family === "UNKNOWN") return { length, client: undefined };
  const isAddress = family === "TCP4" ? isIPv4 : family === "TCP6" ? isPlainIPv6 : () => false;
  if (!isAddress(from) || !isAddress(to) || ports.length !== 2 || !ports.every(isPort))
    throw new ProxyHeaderError("a malformed PROXY line");
  return { length, client: from };
}

const isPlainIPv6 = (text: string): boolean => isIPv6(text) && !text.includes("%");
const isPort = (text: string): boolean => /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65535;

function parseBlock(bytes: Buffer): ProxyHeader | undefined {
  if (bytes.length < 16) return undefined;
  const [command = 0, family = 0] = bytes.subarray(12, 14);
  const size = bytes.readUInt16BE(14);
  if (command !== 0x20 && command !== 0x21) throw new ProxyHeaderError("a PROXY header of another version or command");
  if (size > V2_MOST) throw new ProxyHeaderError(`a PROXY header of ${size} bytes`);
  if (bytes.length < 16 + size) return undefined;
  const length = 16 + size;
  const local = command === 0x20;
  if (local || family === 0x00) return { length, client: undefined };
  if (family === 0x11 && size >= 12) return { length, client: [...bytes.subarray(16, 20)].join(".") };
  if (family === 0x21 && size >= 36) return { length, client: ipv6Of(bytes.subarray(16, 32)) };
  throw new ProxyHeaderError("a PROXY header for something other than TCP over IP");
}

function ipv6Of(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16));
  return groups.join(":");
}
