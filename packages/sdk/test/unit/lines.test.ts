import fc from "fast-check";
import { expect, test } from "vitest";
import { linesOf } from "../../src/lines.ts";

async function* pieces(parts: readonly string[]) {
  yield* parts;
}

test("lines are the same however the text was cut", async () => {
  const text = fc.array(fc.string({ unit: fc.constantFrom("a", "é", "\r", " ") }), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(text, fc.array(fc.nat(40), { maxLength: 6 }), async (lines, cuts) => {
      const whole = lines.map((line) => `${line}\n`).join("");
      const at = [0, ...cuts.map((c) => Math.min(c, whole.length)).sort((a, b) => a - b), whole.length];
      const parts = at.slice(1).map((end, i) => whole.slice(at[i], end));
      expect(await Array.fromAsync(linesOf(pieces(parts)))).toEqual(lines);
    }),
  );
});

test("a last line without its end counts", async () => {
  expect(await Array.fromAsync(linesOf(pieces(["a\nb"])))).toEqual(["a", "b"]);
});
