import { isIPv6 } from "node:net";

/**
 * Where requests come from, as far as one party is concerned: an IPv4 address, or the first half of an IPv6 one, which
 * is the smallest network that is given out.
 */
export function sourceOf(remoteAddress: string | undefined): string {
  const address = (remoteAddress ?? "").split("%", 1)[0]!.toLowerCase();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  if (mapped) return mapped[1]!;
  if (!isIPv6(address)) return address;
  const [head = "", tail] = address.split("::");
  const first = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const last = tail === "" ? 0 : tail.split(":").length + (tail.includes(".") ? 1 : 0);
    while (first.length + last < 8) first.push("0");
    first.push(...tail.split(":"));
  }
  return `${first
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
