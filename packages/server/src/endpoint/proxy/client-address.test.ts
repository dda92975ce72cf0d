import fc from "fast-check";
import { expect, test } from "vitest";
import { AddressList } from "../../lib/address-list.ts";
import { clientAddress, type Proxies } from "./client-address.ts";

const by = (header: Proxies["header"]): Proxies => ({ trusted: new AddressList("10.0.0.0/8, ::1"), header });
const xff = (peer: string, ...values: string[]): string =>
  clientAddress(
    peer,
    values.flatMap((value) => ["X-Forwarded-For", value]),
    by("x-forwarded-for"),
  );
const forwarded = (peer: string, ...values: string[]): string =>
  clientAddress(
    peer,
    values.flatMap((value) => ["Forwarded", value]),
    by("forwarded"),
  );

test("nobody's word counts but the proxies'", () => {
  expect(xff("192.0.2.1", "1.1.1.1")).toBe("192.0.2.1");
  expect(forwarded("192.0.2.1", "for=1.1.1.1")).toBe("192.0.2.1");
  expect(xff("10.0.0.1")).toBe("10.0.0.1");
});

test("what a client has made up in front of a proxy's own word is not believed", () => {
  expect(xff("10.0.0.1", "1.1.1.1, 192.0.2.1")).toBe("192.0.2.1");
  expect(xff("10.0.0.1", "1.1.1.1", "192.0.2.1, 10.0.0.2")).toBe("192.0.2.1");
  expect(forwarded("10.0.0.1", "for=1.1.1.1, for=192.0.2.1;proto=https, for=10.3.3.3")).toBe("192.0.2.1");
  expect(forwarded("10.0.0.1", 'for="1.1.1.1', "for=192.0.2.1")).toBe("192.0.2.1");
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(xff("10.0.0.1", text, "192.0.2.1")).toBe("192.0.2.1");
      expect(forwarded("10.0.0.1", text, "for=192.0.2.1")).toBe("192.0.2.1");
      expect(xff("10.0.0.1", `${text}, 192.0.2.1`)).toBe("192.0.2.1");
      // A quote without an end may hide the proxy's word, and then nobody's counts.
      expect(["192.0.2.1", "10.0.0.1"]).toContain(forwarded("10.0.0.1", `${text}, for=192.0.2.1`));
    }),
  );
});

test("the header that is not the proxies' own is never looked at", () => {
  const lines = ["Forwarded", "for=1.1.1.1", "X-Forwarded-For", "2.2.2.2"];
  expect(clientAddress("10.0.0.1", lines, by("x-forwarded-for"))).toBe("2.2.2.2");
  expect(clientAddress("10.0.0.1", lines, by("forwarded"))).toBe("1.1.1.1");
});

test("forms of addresses", () => {
  expect(xff("::1", "192.0.2.1:4711")).toBe("192.0.2.1");
  expect(xff("::1", "[2001:db8::1]:4711")).toBe("2001:db8::1");
  expect(xff("::1", "2001:db8::1")).toBe("2001:db8::1");
  expect(xff("::1", "::ffff:192.0.2.1")).toBe("192.0.2.1");
  expect(forwarded("::1", 'proto=https;For="[2001:db8::1]:4711";by=10.0.0.1')).toBe("2001:db8::1");
  expect(forwarded("::1", 'for=1.1.1.1, for="a,b;c", for=10.0.0.9')).toBe("10.0.0.9");
});

test("behind a name that is no address nobody is known", () => {
  for (const made of ["unknown", "_hidden", "999.1.1.1", "fe80::1%eth0", "a.b.c", ""]) {
    if (made !== "") expect(xff("10.0.0.1", `192.0.2.1, ${made}, 10.0.0.2`), made).toBe("10.0.0.2");
    expect(forwarded("10.0.0.1", `for=192.0.2.1, for=${made}, for=10.0.0.2`), made).toBe("10.0.0.2");
  }
});
