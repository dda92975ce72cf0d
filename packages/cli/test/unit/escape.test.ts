import fc from "fast-check";
import { expect, test } from "vitest";
import { Escapes, type Typed } from "../../src/shell/escape.ts";

/** What is typed as text, and what it means in capitals between; each string is one chunk. */
function read(...chunks: readonly string[]): string {
  const escapes = new Escapes();
  const show = (typed: Typed): string =>
    typed.kind === "type" ? Buffer.from(typed.bytes).toString("latin1") : `<${typed.kind}>`;
  return chunks.map((chunk) => [...escapes.read(Buffer.from(chunk, "latin1"))].map(show).join("")).join("");
}

test.each([
  ["~.", "<disconnect>"],
  ["ls\r~.", "ls\r<disconnect>"],
  ["ls\n~?", "ls\n<help>"],
  ["~?~.", "<help><disconnect>"],
  ["~~", "~"],
  ["~~.", "~."],
  ["~~~~", "~~~"],
  ["~ls", "~ls"],
  ["~\r~.", "~\r<disconnect>"],
  ["a~.", "a~."],
  ["cd ~/.\r", "cd ~/.\r"],
  ["\x1b[A~.", "\x1b[A~."],
])("%j means %j, wherever chunks end", (keys, meaning) => {
  expect(read(keys)).toBe(meaning);
  expect(read(...keys)).toBe(meaning);
});

test("a tilde waits for what comes after it", () => {
  expect(read("~")).toBe("");
  expect(read("~", "x")).toBe("~x");
});

test("keys without a tilde at the beginning of a line are typed as they are", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 5 }), (chunks) => {
      const escapes = new Escapes();
      const whole = Buffer.concat(chunks);
      fc.pre(!/(^|[\r\n])~/.test(whole.toString("latin1")));
      const typed = chunks.flatMap((chunk) => [...escapes.read(chunk)]);
      expect(typed.every(({ kind }) => kind === "type")).toBe(true);
      expect(Buffer.concat(typed.map((one) => (one.kind === "type" ? one.bytes : Buffer.alloc(0))))).toEqual(whole);
    }),
    { numRuns: 500 },
  );
});

test("where chunks end makes no difference", () => {
  const keys = fc.array(fc.constantFrom("~", ".", "?", "\r", "\n", "x"), { maxLength: 30 });
  fc.assert(
    fc.property(keys, (all) => {
      expect(read(...all)).toBe(read(all.join("")));
    }),
  );
});
