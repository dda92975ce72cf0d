import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { SlotPool } from "../../src/host/network/slot-pool.ts";
import { createLog } from "../../src/lib/log.ts";

const root = mkdtempSync(join(tmpdir(), "torpor-slots-"));
afterAll(() => rmSync(root, { recursive: true }));
const pool = (name: string, { max = 10, spare = 1 } = {}): SlotPool =>
  new SlotPool({
    dataDir: root + name,
    cidr: "100.64.0.0/16",
    uidBase: 210_000,
    max,
    spare,
    limits: { connections: { most: 100, perSecond: 100 } },
    log: createLog("silent"),
  });
const namespaces = async (): Promise<string[]> => (await readdir("/run/netns").catch(() => [])).sort();
const veths = (): string[] => execFileSync("ip", ["-o", "link"], { encoding: "utf8" }).match(/torpor\d+/g) ?? [];

test("two servers on one machine never share a slot, and leave nothing behind", async () => {
  const before = { namespaces: await namespaces(), veths: veths() };
  const pools = [pool("/first"), pool("/second")];
  for (const p of pools) await p.start(new Map());
  const slots = await Promise.all([0, 1, 0, 1, 0, 1].map((n) => pools[n]!.take(512)));
  expect(new Set(slots.map((s) => s.address)).size).toBe(6);
  expect(new Set(slots.map((s) => s.uid)).size).toBe(6);
  await Promise.all(slots.map((slot, n) => pools[n % 2]!.release(slot)));
  for (const p of pools) await p.close();
  expect({ namespaces: await namespaces(), veths: veths() }).toEqual(before);
});

test("a slot that is held by nobody is removed at the next start, one that is held is kept", async () => {
  const first = pool("/restarted", { spare: 0 }); // a spare one would take the number that has become free
  await first.start(new Map());
  const [kept, lost] = [await first.take(512), await first.take(512)];
  const second = pool("/restarted", { spare: 0 }); // the first was killed
  await second.start(new Map([[kept.index, undefined]]));
  const there = await namespaces();
  expect(there).toContain(kept.netns.split("/").at(-1));
  expect(there).not.toContain(lost.netns.split("/").at(-1));
  expect(second.existing(kept.index)).toEqual(kept);
  await second.release(kept);
  await second.close();
  await first.close();
});

test("what a crash left of a slot half made does not cost another server its own", async () => {
  const other = pool("/whole", { spare: 0 });
  await other.start(new Map());
  const slot = await other.take(512);
  const crashed = pool("/crashed", { spare: 0 });
  // Killed after the first of its steps: a namespace without the veth whose number the other has.
  const half = crashed.existing(slot.index).netns.split("/").at(-1)!;
  execFileSync("ip", ["netns", "add", half]);
  await crashed.start(new Map());
  expect(await namespaces()).not.toContain(half);
  expect(veths()).toContain(`torpor${slot.index}`);
  await other.release(slot);
  for (const p of [crashed, other]) await p.close();
});

test("what is beyond the host's limit is refused with the number", async () => {
  const small = pool("/small", { max: 2 });
  await small.start(new Map());
  const slots = [await small.take(512), await small.take(512)];
  await expect(small.take(512)).rejects.toThrow(/all 2 microvms/);
  for (const slot of slots) await small.release(slot);
  await small.close();
});
