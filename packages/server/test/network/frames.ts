import { GUEST_MAC, TAP_MAC } from "../../src/host/network/rules.ts";

/** Frames as somebody with a raw socket makes them. */
const bytesOf = (address: string): Buffer => Buffer.from(address.split(".").map(Number));
const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(":", ""), "hex");
const uint16 = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);

export const IPV4 = 0x0800;
export const ARP = 0x0806;
export const IPV6 = 0x86dd;
export const VLAN = 0x8100;
export const SERVICE_VLAN = 0x88a8;

function checksum(...parts: readonly Buffer[]): Buffer {
  const all = Buffer.concat(parts);
  let sum = 0;
  for (let at = 0; at < all.length; at += 2) sum += all[at]! * 256 + (all[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return uint16(~sum & 0xffff);
}

export function ethernet(
  type: number,
  payload: Buffer,
  { from = GUEST_MAC, to = TAP_MAC }: { from?: string; to?: string } = {},
): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), uint16(type), payload]);
}

export interface Ipv4 {
  readonly from?: string;
  readonly to: string;
  readonly protocol: number;
  readonly id?: number;
  /** In bytes. */
  readonly offset?: number;
  readonly more?: boolean;
}

export function ipv4({ from = "169.254.0.2", to, protocol, id = 1, offset = 0, more }: Ipv4, payload: Buffer): Buffer {
  const header = Buffer.concat([
    Buffer.from([0x45, 0]),
    uint16(20 + payload.length),
    uint16(id),
    uint16((more ? 0x2000 : 0) | (offset / 8)),
    Buffer.from([64, protocol, 0, 0]),
    bytesOf(from),
    bytesOf(to),
  ]);
  checksum(header).copy(header, 10);
  return Buffer.concat([header, payload]);
}

/** With a checksum only where it is not optional. */
export const udp = (text: string, port = 9999): Buffer =>
  Buffer.concat([uint16(4444), uint16(port), uint16(8 + text.length), uint16(0), Buffer.from(text)]);

/** @param flags FIN 1, SYN 2, RST 4, ACK 16 */
export function tcp(from: string, to: string, flags: number, text: string): Buffer {
  const segment = Buffer.concat([
    uint16(4445),
    uint16(443),
    Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags]),
    uint16(1024),
    uint16(0),
    uint16(0),
    Buffer.from(text),
  ]);
  checksum(bytesOf(from), bytesOf(to), uint16(6), uint16(segment.length), segment).copy(segment, 16);
  return segment;
}

/** An answer that nobody asked for. */
export const arpReply = (ip: string, mac: string, toIp: string): Buffer =>
  Buffer.concat([
    uint16(1),
    uint16(IPV4),
    Buffer.from([6, 4]),
    uint16(2),
    macBytes(mac),
    bytesOf(ip),
    macBytes(TAP_MAC),
    bytesOf(toIp),
  ]);

export const tagged = (tag: number, inner: Buffer): Buffer => Buffer.concat([uint16(tag), uint16(IPV4), inner]);
