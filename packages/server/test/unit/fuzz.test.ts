import { randomInt } from "node:crypto";
import { expect, test } from "vitest";
import { fuzz } from "../fuzz/fuzz.ts";

/** A short run, each time another one; `npm run fuzz:api` is the long one. */
test("nonsense brings out no 5xx, no hang, no crash and no error in the log", { timeout: 120_000 }, async () => {
  const seed = randomInt(2 ** 30);
  const { sent, statuses, failure } = await fuzz({ requests: 2000, seed });
  expect({ seed, failure }).toEqual({ seed, failure: undefined });
  expect(sent).toBe(2000);
  // It gets past the door often enough to mean something.
  expect(statuses["200"]).toBeGreaterThan(50);
  expect(statuses["400"]).toBeGreaterThan(200);
});
