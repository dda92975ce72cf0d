import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_LAYERS, mergeFrom } from "./layer-merge.ts";

test("few layers are left alone", () => {
  for (let n = 0; n <= MAX_LAYERS; n++) expect(mergeFrom(Array(n).fill(1))).toBeUndefined();
});

test("a large one at the bottom is not copied for small ones above it", () => {
  expect(mergeFrom([1000, ...Array(8).fill(1)])).toBe(1);
  expect(mergeFrom([1000, 100, 1, 1, 1, 1, 1, 1, 1])).toBe(2);
  expect(mergeFrom(Array(9).fill(5))).toBe(0);
});

const SIZE = fc.integer({ min: 1, max: 1 << 20 });

test("whatever their sizes, at most half as many as are allowed are left", () => {
  fc.assert(
    fc.property(fc.array(SIZE, { minLength: MAX_LAYERS + 1, maxLength: 200 }), (sizes) => {
      const from = mergeFrom(sizes)!;
      expect(from).toBeGreaterThanOrEqual(0);
      expect(from + 1).toBeLessThanOrEqual(MAX_LAYERS / 2);
    }),
  );
});

test("a disk that gets a layer at each sleep is copied a few times in all, not once a merge", () => {
  fc.assert(
    fc.property(fc.array(SIZE, { minLength: 500, maxLength: 1000 }), (written) => {
      let layers: number[] = [];
      let copied = 0;
      for (const bytes of written) {
        layers.push(bytes);
        const from = mergeFrom(layers);
        if (from === undefined) continue;
        const merged = layers.slice(from).reduce((sum, b) => sum + b, 0);
        copied += merged;
        layers = [...layers.slice(0, from), merged];
      }
      const total = written.reduce((sum, b) => sum + b, 0);
      expect(copied / total).toBeLessThan(2 + Math.log2(written.length));
    }),
    { numRuns: 20 },
  );
});
