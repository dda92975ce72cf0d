import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { HostError } from "../host-client.ts";
import { flip, snapshotsIn } from "../snapshot/snapshot.fixture.ts";
import { RestorePoints } from "./restore-points.ts";

const { signal } = new AbortController();
const { verifier, snapshot, at } = snapshotsIn("torpor-points-");

const open = (): RestorePoints => new RestorePoints(at("points"), "microvm-1", verifier(), createLog("silent"));
const kept = async (): Promise<string[]> => (await readdir(at("points"))).sort();
/** Snapshots 1 to n, each on the one before. */
async function points(n: number): Promise<RestorePoints> {
  await mkdir(at("points"));
  let parent: Awaited<ReturnType<typeof snapshot>> | undefined;
  for (let number = 1; number <= n; number++)
    parent = await snapshot(`points/${number}`, { layers: number, ...(parent && { parent }) });
  return open();
}

describe("what is kept", () => {
  test("the one before, until the newest is verified", async () => {
    const all = await points(3);
    await mkdir(at("points/4.tmp"));
    await all.tidy(3);
    expect(await kept()).toEqual(["2", "3"]);
    await all.check(3, undefined, signal);
    expect(await kept()).toEqual(["3"]);
  });

  test("the newest verified one as well, if that is another", async () => {
    const all = await points(4);
    await verifier().check(at("points/1"), undefined, signal);
    await verifier().check(at("points/2"), undefined, signal);
    await all.tidy(4);
    expect(await kept()).toEqual(["2", "3", "4"]);
  });

  test("nothing that is damaged, and what is before it", async () => {
    const all = await points(3);
    await flip(at("points/2/devices"));
    await verifier().check(at("points/2"), undefined, signal);
    await all.tidy(3);
    expect(await kept()).toEqual(["1", "3"]);
  });

  test("what there was, when the newest turns out to be damaged", async () => {
    const all = await points(2);
    await flip(at("points/2/disk-2.qcow2"));
    await all.tidy(2);
    await all.check(2, undefined, signal); // its digest is that of what is there: nobody had read it before
    expect(await kept()).toEqual(["2"]);
    await flip(at("points/2/memory-1.diff"));
    await all.check(2, undefined, signal);
    expect(await all.found(2)).toMatchObject({ damage: { file: "memory-1.diff" } });
    expect(await kept()).toEqual(["2"]);
  });
});

describe("a damaged newest one", () => {
  test("is refused with when the one before was made, and that one can be taken", async () => {
    const all = await points(2);
    await rm(at("points/2/devices"));
    const { createdAt } = (await all.open(1)).manifest;
    await expect(all.usable(2, signal)).rejects.toMatchObject({
      file: "devices",
      what: "is missing",
      earlier: createdAt,
    });
    expect((await all.takeEarlier(2, signal)).path).toBe(at("points/1"));
  });

  test("has nothing before it that shares the damage", async () => {
    await mkdir(at("points"));
    const all = open();
    let parent = await snapshot("points/1", { layers: 1 });
    for (const number of [2, 3]) {
      await verifier().check(parent.path, undefined, signal);
      parent = await snapshot(`points/${number}`, { layers: number, parent });
    }
    await flip(at("points/1/disk-1.qcow2")); // of all three: it is one file
    await expect(all.usable(3, signal)).rejects.toThrow(/^disk-1\.qcow2 of .* has other contents/);
    await expect(all.takeEarlier(3, signal)).rejects.toMatchObject({ reason: "not_found" });
    await expect(open().usable(3, signal)).rejects.toMatchObject({ earlier: undefined });
  });

  test("is found by name when a VMM refuses it without saying why", async () => {
    const all = await points(2);
    await all.check(2, undefined, signal);
    const refusal = new HostError("corrupt", "the VMM refused the snapshot");
    expect(await all.explain(2, refusal, signal)).toBe(refusal);
    await flip(at("points/2/memory-2.diff"));
    expect(await all.explain(2, refusal, signal)).toMatchObject({ file: "memory-2.diff" });
    const busy = new HostError("capacity", "no slot");
    expect(await all.explain(2, busy, signal)).toBe(busy);
  });
});

test("the newest is the one with the highest number, whatever else lies there", async () => {
  const all = await points(2);
  for (const name of ["10", "9.tmp", "x"]) await mkdir(join(at("points"), name));
  expect(await all.newest()).toBe(10);
  expect(await new RestorePoints(at("none"), "microvm-1", verifier(), createLog("silent")).newest()).toBe(0);
});
