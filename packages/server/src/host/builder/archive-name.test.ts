import { posix } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { linkProblem, nameProblem } from "./archive-name.ts";

const segment = fc.constantFrom("..", ".", "", "a", "bin", "c:", "d\\e", "x\0", "…");
const path = fc.array(segment, { minLength: 1, maxLength: 6 }).map((parts) => parts.join("/"));

test("a name that is accepted stays below the folder, wherever that is", () => {
  fc.assert(
    fc.property(path, (name) => {
      if (nameProblem(name)) return;
      const landed = posix.join("/out", name);
      expect(landed.startsWith("/out/")).toBe(true);
      expect(posix.normalize(name)).toBe(name);
    }),
  );
});

test("a link that is accepted leads, from where it lies, to below the folder", () => {
  fc.assert(
    fc.property(path, path, (name, target) => {
      if (nameProblem(name) || name.endsWith("/") || linkProblem(name, target)) return;
      const landed = posix.join("/out", posix.dirname(name), target);
      expect(landed === "/out" || landed.startsWith("/out/") || landed === "/out/").toBe(true);
    }),
  );
});

test("names that look like a sibling of the folder are just names", () => {
  expect(nameProblem("out2/x")).toBeUndefined();
  expect(nameProblem("..a/b..")).toBeUndefined();
});
