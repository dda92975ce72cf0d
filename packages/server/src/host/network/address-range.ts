import { BlockList, isIPv4 } from "node:net";

/** Closed whatever anybody configures: what is not an address of another machine. Other guests are, by the slots' own range. */
export const ALWAYS_CLOSED = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"] as const;

/** Closed unless the operator opens them, or a part of them, by name: whoever owns this network has something there. */
export const PRIVATE = [
  "10.0.0.0/8",
  "100.64.0.0/10",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
] as const;

/** What `public` leaves out. */
export const NOT_PUBLIC: readonly string[] = [...ALWAYS_CLOSED, ...PRIVATE];

/** IPv4 addresses with a common prefix. */
export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

/** Undefined unless the text is an address, or a network address and the length of its prefix. */
export function parseRange(text: string): AddressRange | undefined {
  const parts = /^(\d{1,3}(?:\.\d{1,3}){3})(?:\/(\d{1,2}))?$/.exec(text);
  const bits = Number(parts?.[2] ?? 32);
  const first = parts?.[1] === undefined ? undefined : parseAddress(parts[1]);
  if (first === undefined || bits > 32) return undefined;
  const size = 2 ** (32 - bits);
  return first % size === 0 ? { first, last: first + size - 1 } : undefined;
}

export function parseAddress(text: string): number | undefined {
  if (!isIPv4(text)) return undefined;
  return text.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

export const within = (inner: AddressRange, outer: AddressRange): boolean =>
  inner.first >= outer.first && inner.last <= outer.last;

export const overlap = (a: AddressRange, b: AddressRange): boolean => a.first <= b.last && b.first <= a.last;

/** The same numbers, in as few ranges as that takes: the kernel refuses sets whose ranges overlap. */
export function merged(ranges: readonly AddressRange[]): AddressRange[] {
  const result: AddressRange[] = [];
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = result.at(-1);
    if (before && first <= before.last + 1)
      result[result.length - 1] = { first: before.first, last: Math.max(before.last, last) };
    else result.push({ first, last });
  }
  return result;
}

export const formatAddress = (address: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");

/** Whether an address is in one of the ranges; what is not an IPv4 address is in none. */
export function matcher(cidrs: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [network, bits = "32"] = cidr.split("/");
    list.addSubnet(network!, Number(bits));
  }
  return (address) => isIPv4(address) && list.check(address);
}
