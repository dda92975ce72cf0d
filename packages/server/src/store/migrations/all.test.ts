import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { MIGRATIONS } from "./all.ts";

/** Users' databases were made by these very texts. To change the schema, add a migration and its digest. */
const FROZEN: Readonly<Record<string, string>> = {
  "0001-initial": "cb56082914a00b479d9881c584198d1d06ed493ff45a2c9fe1804ea8852189e6",
  "0002-checkpoints": "ceaf584e245a16f799f70ca6494a41d5f0fe7678e257d11fc9b0d9eeacb8ceaa",
  "0003-image-lifecycle": "c4b148d6611738388dd78504f707b4b078761a4618f05db9aecdb269e38f7a5b",
  "0004-network-connectors": "e745deb964f7bc9088ca837636a787b47d1f7b21768623edce20b3e6d79b36c4",
  "0005-quotas": "619ccffb00bbde950647641b1d9da404401fed76464a3852ba88746790e4490f",
  "0006-accounts-and-keys": "7d85ff53c6e9812ea7e173275131d5db99b06cb9907b5585bbbf644cd574eb6e",
};

test("released migrations are not edited, and each new one is frozen here", async () => {
  const digests: Record<string, string> = {};
  for (const name of Object.keys(MIGRATIONS)) {
    const text = await readFile(new URL(`./${name}.ts`, import.meta.url));
    digests[name] = createHash("sha256").update(text).digest("hex");
  }
  expect(digests).toEqual(FROZEN);
});

test("migrations are numbered without gaps", () => {
  const numbers = Object.keys(MIGRATIONS).map((name) => Number(name.slice(0, 4)));
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
});
