import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalJson } from "./idempotency.ts";

test("the text of a request does not depend on the order of its members", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(canonicalJson(reversed(value))).toBe(canonicalJson(value));
    }),
  );
});

test("absent, undefined and null are the same, and nothing else is", () => {
  expect(canonicalJson({ a: null, b: undefined, c: 1 })).toBe(canonicalJson({ c: 1 }));
  const different = [{ a: 1 }, { a: "1" }, { a: [1] }, { a: [] }, { a: {} }, { a: false }, { a: "" }, {}, { b: 1 }];
  expect(new Set(different.map(canonicalJson)).size).toBe(different.length);
});

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, member]) => [name, reversed(member)]),
  );
}
