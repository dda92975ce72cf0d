import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type JsonValue, MAX_DEPTH, parseJson } from "./json.ts";
import { RequestError } from "./request-error.ts";

const parse = (text: string): JsonValue => parseJson(Buffer.from(text));
const plain = (value: JsonValue): unknown =>
  value instanceof Map
    ? Object.fromEntries([...value].map(([name, item]) => [name, plain(item)]))
    : Array.isArray(value)
      ? value.map(plain)
      : value;

test("whatever JSON.stringify writes is read as JSON.parse reads it", () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: "grapheme" }), fc.nat(2), (text, indent) => {
      const spaced = JSON.stringify(JSON.parse(text), null, indent);
      expect(plain(parse(spaced))).toEqual(JSON.parse(spaced));
    }),
    { numRuns: 1000 },
  );
});

test("whatever JSON.parse refuses is refused, and nothing else ever happens", () => {
  const soup = fc.string({
    unit: fc.constantFrom(...'{}[]",:0123456789.-+eEtrufalsn\\ \n\t\u0001'.split(""), "true", '"a"', "null"),
    maxLength: 12,
  });
  fc.assert(
    fc.property(soup, (text) => {
      let mine: unknown;
      try {
        mine = plain(parse(text));
      } catch (err) {
        expect(err).toBeInstanceOf(RequestError);
        if (!/ twice\./.test(String(err))) expect(() => JSON.parse(text)).toThrow();
        return;
      }
      expect(mine).toEqual(JSON.parse(text));
    }),
    { numRuns: 3000 },
  );
});

describe("refused is", () => {
  test.each([
    [
      "a body that is deeper than 32 levels",
      `${"[".repeat(MAX_DEPTH + 1)}${"]".repeat(MAX_DEPTH + 1)}`,
      /nested deeper/,
    ],
    ["a million opening brackets", "[".repeat(1_000_000), /nested deeper/],
    ["a name that comes twice", '{"a":1,"b":{"c":1,"\\u0063":2}}', /"c" twice/],
    ["a number that is too large to be one", "[1e999]", /smaller number/],
    ["a byte order mark", "\ufeff{}", /not JSON/],
    ["a comment", "{} // x", /not JSON/],
    ["nothing but space", "  ", /expected a value/],
  ])("%s", (_, text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  test("what is not UTF-8", () => {
    expect(() => parseJson(Buffer.from([0x22, 0xff, 0x22]))).toThrow("not UTF-8");
    expect(() => parseJson(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]))).toThrow("not UTF-8");
  });
});

test("exactly 32 levels are read", () => {
  expect(plain(parse(`${"[".repeat(MAX_DEPTH)}${"]".repeat(MAX_DEPTH)}`))).toBeDefined();
});

test("__proto__ is a name like any other", () => {
  const value = parse('{"__proto__":{"polluted":true},"constructor":1}');
  expect(value instanceof Map && [...value.keys()]).toEqual(["__proto__", "constructor"]);
  expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
});

test("a string of a megabyte of backslashes and quotes is read in no time", () => {
  const text = JSON.stringify('\\"'.repeat(250_000));
  expect(parse(text)).toBe('\\"'.repeat(250_000));
});
