import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseFilterPattern } from "./filter-pattern.ts";
import { FilterPatternError } from "./line-filter.ts";

const LINES = ["ERROR 404 not found", "WARN slow", "info ERROR-free", 'say "hi" to x', "", '{"a":1}'];
const matching = (pattern: string): string[] => LINES.filter(parseFilterPattern(pattern));

describe("terms", () => {
  test.each([
    ["", LINES],
    ["  ", LINES],
    ["ERROR", ["ERROR 404 not found", "info ERROR-free"]],
    ["error", []],
    ["ERROR 404", ["ERROR 404 not found"]],
    ["404 ERROR", ["ERROR 404 not found"]],
    ['"404 not"', ["ERROR 404 not found"]],
    ['"not 404"', []],
    ['"ERROR-free"', ["info ERROR-free"]],
    ['"\\"hi\\""', ['say "hi" to x']],
    ["?ERROR ?WARN", ["ERROR 404 not found", "WARN slow", "info ERROR-free"]],
    ['?slow ?"to x"', ["WARN slow", 'say "hi" to x']],
    ["ERROR -404", ["info ERROR-free"]],
    ['-ERROR -"to x" -a', ["WARN slow", ""]],
  ])("%s", (pattern, expected) => {
    expect(matching(pattern)).toEqual(expected);
  });

  test.each([
    ["?a b", "cannot be combined"],
    ["a ?b -c", "cannot be combined"],
    ["%err.*%", "Regular expressions"],
    ["?%x%", "Regular expressions"],
    ["[ip, user, size > 10]", "space-delimited"],
    ["foo-bar", "Invalid character(s) in term 'foo-bar'"],
    ['"unclosed', "is no term"],
    ['a"b"', "is no term"],
    ['""', "empty"],
    ["-", "Invalid character(s)"],
    ["x".repeat(1025), "longer than 1024"],
  ])("%s is refused by name", (pattern, reason) => {
    expect(() => parseFilterPattern(pattern)).toThrow(FilterPatternError);
    expect(() => parseFilterPattern(pattern)).toThrow(reason);
  });
});

describe("conditions on JSON", () => {
  const line = JSON.stringify({
    level: "error",
    ms: 120,
    path: "/api/v1/things",
    user: { name: "ann", roles: ["admin", "ops"], admin: true, email: null },
    "odd-key": "x",
    code: "404",
  });
  test.each([
    '{ $.level = "error" }',
    "{ $.level = error }",
    '{ $.level != "info" }',
    "{ $.ms > 100 }",
    "{ $.ms >= 120 && $.ms <= 1.2e2 }",
    "{ $.ms = 120 }",
    "{ $.code = 404 }",
    '{ $.path = "/api/*/things" }',
    '{ $.path = "*things" }',
    '{ $.path = "/api*" }',
    "{ $.path = * }",
    '{ $.user.roles[1] = "ops" }',
    "{ $.user.admin IS TRUE }",
    "{ $.user.email IS NULL }",
    "{ $.nothing NOT EXISTS }",
    "{ $.user.nothing.at.all not exists }",
    `{ $['odd-key'] = "x" }`,
    '{ $.user["name"] = "ann" }',
    '{ ($.level = "info") || ($.ms > 1 && $.user.name = "ann") }',
    '{ $.level = "info" && $.ms > 1000 || $.ms = 120 }',
    '{$.level="error"&&$.ms!=121}',
  ])("%s matches", (pattern) => {
    expect(parseFilterPattern(pattern)(line)).toBe(true);
  });

  test.each([
    '{ $.level = "info" }',
    '{ $.nothing = "x" }',
    '{ $.nothing != "x" }',
    "{ $.ms > 120 }",
    "{ $.level > 1 }",
    '{ $.path = "/api/*/other" }',
    '{ $.path = "/api*api" }',
    "{ $.user.admin IS FALSE }",
    "{ $.user NOT EXISTS }",
    "{ $.__proto__.x = 1 }",
    '{ $.constructor != "x" }',
    '{ $.level = "info" && ($.ms > 1000 || $.ms = 120) }',
  ])("%s does not match", (pattern) => {
    expect(parseFilterPattern(pattern)(line)).toBe(false);
  });

  test("a line that is not JSON does not match", () => {
    for (const text of ["", "error", "null", "[1]", "5", '{"level":']) {
      expect(parseFilterPattern('{ $.level = "error" }')(text)).toBe(false);
    }
  });

  test.each([
    ["{", "ends"],
    ["{ }", "selector"],
    ["{ $.a }", "comparison|operator|ends|value"],
    ["{ $.a = }", "comparison"],
    ['{ $.a = "x" ', "expected }"],
    ['{ $.a = "x" } more', "follows the end"],
    ["{ $.a = %x% }", "Regular expressions"],
    ["{ $.a LIKE x }", "LIKE"],
    ["{ $.a > x }", "compares numbers"],
    ["{ $.a..b = 1 }", "no selector"],
    ["{ a = 1 }", "selector"],
    [`{ ${"(".repeat(200)}$.a = 1${")".repeat(200)} }`, "parentheses"],
  ])("%s is refused", (pattern, reason) => {
    expect(() => parseFilterPattern(pattern)).toThrow(FilterPatternError);
    expect(() => parseFilterPattern(pattern)).toThrow(new RegExp(reason));
  });
});

test("any text is a pattern or is refused as one", () => {
  const signs = fc.constantFrom("{", "}", "$.a", "=", '"', "?", "-", "&&", "(", " ", "x", "[", "%", "\\", "1", "*");
  const texts = fc.oneof(
    fc.string(),
    fc.array(signs).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(texts, fc.string(), (pattern, line) => {
      try {
        expect(typeof parseFilterPattern(pattern)(line)).toBe("boolean");
      } catch (err) {
        expect(err).toBeInstanceOf(FilterPatternError);
      }
    }),
  );
});

test("a quoted term is found exactly where the text has it", () => {
  const word = fc.string().filter((text) => text.trim() !== "");
  fc.assert(
    fc.property(fc.string(), word, fc.string(), (before, term, after) => {
      const quoted = `"${term.replace(/["\\]/g, "\\$&")}"`;
      expect(parseFilterPattern(quoted)(before + term + after)).toBe(true);
      expect(parseFilterPattern(`-${quoted}`)(before + term + after)).toBe(false);
    }),
  );
});
