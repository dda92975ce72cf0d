import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { compatibilityText, strayNotes } from "./compatibility.ts";

test("docs/compatibility.md is what the operation table and its notes say", () => {
  const written = readFileSync(fileURLToPath(new URL("../../docs/compatibility.md", import.meta.url)), "utf8");
  const isFresh = written === compatibilityText();
  expect(isFresh, "docs/compatibility.md is stale: npm run docs:compatibility").toBe(true);
});

test("every note is on a member that is there", () => {
  expect(strayNotes()).toEqual([]);
});
