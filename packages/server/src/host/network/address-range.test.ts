import fc from "fast-check";
import { expect, test } from "vitest";
import {
  formatAddress,
  matcher,
  merged,
  NOT_PUBLIC,
  overlap,
  parseAddress,
  parseRange,
  within,
} from "./address-range.ts";

const address = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const cidr = fc
  .tuple(address, fc.integer({ min: 0, max: 32 }))
  .map(([n, bits]) => `${formatAddress(n - (n % 2 ** (32 - bits)))}/${bits}`);

test.each(["10.0.0.0/8", "0.0.0.0/0", "1.2.3.4", "1.2.3.4/32", "255.255.255.255"])("%s is a range", (text) => {
  expect(parseRange(text)).toBeDefined();
});

test.each([
  "",
  "10.0.0.1/8",
  "10.0.0.0/33",
  "10.0.0/8",
  "256.0.0.0/8",
  "::/0",
  "10.0.0.0/8 ",
  "a/8",
  "1.2.3.4/",
  "01.2.3.4",
])("%j is none", (text) => {
  expect(parseRange(text)).toBeUndefined();
});

test("addresses are written as they are read", () => {
  fc.assert(fc.property(address, (n) => parseAddress(formatAddress(n)) === n));
});

test("merged ranges hold the same numbers, and none overlaps or touches another", () => {
  const range = fc.tuple(fc.nat(60), fc.nat(20)).map(([first, more]) => ({ first, last: first + more }));
  fc.assert(
    fc.property(fc.array(range), (ranges) => {
      const result = merged(ranges);
      for (let n = 0; n <= 90; n++) {
        const has = (list: typeof ranges): boolean => list.some(({ first, last }) => n >= first && n <= last);
        expect(has(result)).toBe(has(ranges));
      }
      for (let at = 1; at < result.length; at++) expect(result[at]!.first).toBeGreaterThan(result[at - 1]!.last + 1);
    }),
  );
});

test("an address is in a range when its number is, within and overlap alike", () => {
  fc.assert(
    fc.property(cidr, cidr, address, (a, b, n) => {
      const [x, y] = [parseRange(a)!, parseRange(b)!];
      expect(matcher([a])(formatAddress(n))).toBe(n >= x.first && n <= x.last);
      if (within(x, y)) expect(overlap(x, y)).toBe(true);
      // Two ranges of prefixes are one in the other, or have nothing in common.
      expect(overlap(x, y)).toBe(within(x, y) || within(y, x));
    }),
  );
});

test.each([
  "10.1.2.3",
  "100.64.0.1",
  "127.0.0.1",
  "169.254.169.254",
  "172.31.0.1",
  "192.168.0.1",
  "224.0.0.1",
  "255.255.255.255",
  "0.0.0.0",
])("%s is not public", (each) => expect(matcher(NOT_PUBLIC)(each)).toBe(true));
test.each(["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "::1", "::ffff:10.0.0.1", "nonsense"])(
  "%s is none of those",
  (each) => expect(matcher(NOT_PUBLIC)(each)).toBe(false),
);
