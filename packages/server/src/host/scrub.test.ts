import { mkdir, readdir, rm } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { Scrub } from "./scrub.ts";
import { flip, snapshotsIn } from "./snapshot/snapshot.fixture.ts";
import { readVerification, writeVerification } from "./snapshot/verification.ts";

const { signal } = new AbortController();
const { read, verifier, snapshot, at } = snapshotsIn("torpor-scrub-");

const open: Scrub[] = [];
afterEach(async () => {
  for (const scrub of open.splice(0)) await scrub.close();
});
function scrubOf(names: readonly string[], days = 7): Scrub {
  const scrub = new Scrub({
    verifier: verifier(),
    clock: systemClock,
    log: createLog("silent"),
    days,
    instances: () => [],
    checkpoints: async () => names.map(at),
  });
  open.push(scrub);
  return scrub;
}
/** As if it had been read so many days ago. */
async function age(folder: string, days: number): Promise<void> {
  const found = await readVerification(folder);
  await writeVerification(folder, { ...found!, checkedAt: new Date(Date.now() - days * 86_400_000).toISOString() });
}

describe("a round", () => {
  test("reads what nobody has read, and what was read long ago, and nothing else", async () => {
    for (const name of ["new", "old", "fresh"]) await snapshot(name);
    for (const name of ["old", "fresh"]) await verifier().check(at(name), undefined, signal);
    await age(at("old"), 8);
    await age(at("fresh"), 6);
    await flip(at("old/disk-1.qcow2"));
    read.length = 0;
    await scrubOf(["new", "old", "fresh"]).round();
    expect(new Set(read.map((path) => path.split("/").at(-2)))).toEqual(new Set(["new", "old"]));
    expect(await readVerification(at("new"))).toMatchObject({ damage: null });
    expect(await readVerification(at("old"))).toMatchObject({ damage: { file: "disk-1.qcow2" } });
  });

  test("of no days reads what nobody has read, and never again", async () => {
    for (const name of ["new", "old"]) await snapshot(name);
    await verifier().check(at("old"), undefined, signal);
    await age(at("old"), 4000);
    read.length = 0;
    await scrubOf(["new", "old"], 0).round();
    expect(new Set(read.map((path) => path.split("/").at(-2)))).toEqual(new Set(["new"]));
  });
});

test("a checkpoint that is forgotten while it is read can be removed, and nothing is made in its place", async () => {
  await mkdir(at("checkpoints"));
  for (let n = 0; n < 10; n++) {
    const { path } = await snapshot(`checkpoints/${n}`);
    const scrub = scrubOf([]);
    scrub.soon(path);
    await scrub.forget(path);
    await rm(path, { recursive: true });
  }
  expect(await readdir(at("checkpoints"))).toEqual([]);
});

test("one that is gone before its turn is nobody's loss", async () => {
  await snapshot("there");
  const scrub = scrubOf(["gone", "there"]);
  await scrub.round();
  expect(await readVerification(at("there"))).toMatchObject({ damage: null });
  expect(await readdir(at("."))).toEqual(["there"]);
});
