import fc from "fast-check";
import { expect, test } from "vitest";
import { ProxyHeaderError, parseProxyHeader } from "./proxy-header.ts";

const SIGNATURE = "\r\n\r\n\0\r\nQUIT\n";
const block = (command: number, family: number, body: Buffer): Buffer => {
  const head = Buffer.alloc(4);
  head.writeUInt8(command, 0);
  head.writeUInt8(family, 1);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([Buffer.from(SIGNATURE, "latin1"), head, body]);
};
const port = fc.integer({ min: 0, max: 65535 });
const line = fc
  .oneof(fc.tuple(fc.constant("TCP4"), fc.ipV4()), fc.tuple(fc.constant("TCP6"), fc.ipV6()))
  .chain(([family, client]) =>
    fc.tuple(port, port).map(([from, to]) => {
      const own = family === "TCP4" ? "127.0.0.1" : "::1";
      return { bytes: Buffer.from(`PROXY ${family} ${client} ${own} ${from} ${to}\r\n`), client };
    }),
  )
  .filter(({ bytes }) => bytes.length <= 107);
const v4 = fc
  .tuple(fc.uint8Array({ minLength: 12, maxLength: 12 }), fc.uint8Array({ maxLength: 300 }))
  .map(([addresses, notes]) => ({
    bytes: block(0x21, 0x11, Buffer.concat([addresses, notes])),
    client: [...addresses.subarray(0, 4)].join("."),
  }));
const v6 = fc.uint8Array({ minLength: 36, maxLength: 36 }).map((addresses) => ({
  bytes: block(0x21, 0x21, Buffer.from(addresses)),
  client: Array.from({ length: 8 }, (_, i) =>
    Buffer.from(addresses)
      .readUInt16BE(i * 2)
      .toString(16),
  ).join(":"),
}));

test("whatever follows, a header says whose connection it is and where it ends; before its end it wants more", () => {
  fc.assert(
    fc.property(fc.oneof(line, v4, v6), fc.uint8Array({ maxLength: 100 }), ({ bytes, client }, rest) => {
      expect(parseProxyHeader(Buffer.concat([bytes, rest]))).toEqual({ length: bytes.length, client });
      for (const cut of [0, 1, 11, 12, 15, 16, bytes.length - 1])
        if (cut < bytes.length) expect(parseProxyHeader(bytes.subarray(0, cut))).toBeUndefined();
    }),
  );
});

test("nothing else is one, and nothing makes it wait for ever", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 4000 }).map((bytes) => Buffer.from(bytes)),
        fc.string({ maxLength: 200 }).map((text) => Buffer.from(`PROXY ${text}`)),
        fc.uint8Array({ maxLength: 4000 }).map((bytes) => Buffer.concat([Buffer.from(SIGNATURE, "latin1"), bytes])),
      ),
      (bytes) => {
        let header: ReturnType<typeof parseProxyHeader>;
        try {
          header = parseProxyHeader(bytes);
        } catch (err) {
          expect(err).toBeInstanceOf(ProxyHeaderError);
          return;
        }
        if (header === undefined) expect(bytes.length).toBeLessThan(16 + 2048);
        else expect(header.length).toBeLessThanOrEqual(bytes.length);
      },
    ),
  );
});

test("a proxy that speaks for itself", () => {
  for (const bytes of [
    Buffer.from("PROXY UNKNOWN\r\n"),
    Buffer.from("PROXY UNKNOWN ffff:: ::1 1 2\r\n"),
    block(0x20, 0x00, Buffer.alloc(0)),
    block(0x20, 0x11, Buffer.alloc(12)),
    block(0x21, 0x00, Buffer.alloc(0)),
  ])
    expect(parseProxyHeader(bytes)).toEqual({ length: bytes.length, client: undefined });
});

test.each([
  "GET / HTTP/1.1\r\n",
  "\x16\x03\x01\x02\x00\x01",
  "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
  "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
  "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
  "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
  "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
  "PROXY TCP4 ::1 ::1 1 2\r\n",
  "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
  "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
  "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
  "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
  `PROXY UNKNOWN ${"x".repeat(200)}\r\n`,
])("%j is refused", (text) => {
  expect(() => parseProxyHeader(Buffer.from(text, "latin1"))).toThrow(ProxyHeaderError);
});

test.each([
  ["version 3", block(0x31, 0x11, Buffer.alloc(12))],
  ["an unknown command", block(0x22, 0x11, Buffer.alloc(12))],
  ["UDP", block(0x21, 0x12, Buffer.alloc(12))],
  ["a path", block(0x21, 0x31, Buffer.alloc(216))],
  ["too few bytes for its addresses", block(0x21, 0x21, Buffer.alloc(12))],
  ["too many bytes", block(0x21, 0x11, Buffer.alloc(2049))],
])("%s is refused", (_name, bytes) => {
  expect(() => parseProxyHeader(bytes)).toThrow(ProxyHeaderError);
});
