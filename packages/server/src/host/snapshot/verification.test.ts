import { copyFile, mkdir, readdir, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../lib/clock.ts";
import { Limiter } from "../../lib/limiter.ts";
import { createLog } from "../../lib/log.ts";
import { DamagedError } from "../host-client.ts";
import { parseSnapshotManifest, type SnapshotManifest, snapshotManifestText } from "./manifest.ts";
import { checksums, flip, snapshotsIn } from "./snapshot.fixture.ts";
import { cloneSnapshot, type Snapshot } from "./snapshot.ts";
import { readVerification, type Verification } from "./verification.ts";
import { Verifier } from "./verifier.ts";

const { signal } = new AbortController();
const { read, verifier, snapshot, at } = snapshotsIn("torpor-verify-");
const open = (folder: string): Promise<Snapshot> => verifier().open(folder, "microvm-1", signal);
const check = (folder: string): Promise<Verification> => verifier().check(folder, undefined, signal);

const FILES = ["manifest.json", "devices", "memory-1.diff", "disk-1.qcow2", "disk-2.qcow2"];

describe("reading a snapshot as a whole", () => {
  test("finds nothing wrong with one that is as it was written, and says so beside it", async () => {
    const { path } = await snapshot("a");
    expect(await check(path)).toMatchObject({ damage: null });
    expect(await readVerification(path)).toMatchObject({ damage: null });
    expect((await readdir(path)).sort()).toEqual([...FILES, "verification.json"].sort());
  });

  test.for(FILES)("finds a byte that changed in %s", async (file) => {
    const { path } = await snapshot("a");
    await check(path);
    await flip(join(path, file));
    expect((await check(path)).damage).toMatchObject({ file });
    await expect(open(path)).rejects.toThrow(DamagedError);
    await flip(join(path, file)); // mended
    await open(path);
    expect(await readVerification(path)).toMatchObject({ damage: null });
  });

  test("is nobody's to disturb: what is broken off leaves what was known", async () => {
    const { path } = await snapshot("a");
    const before = await check(path);
    const stop = new AbortController();
    const slow = new Verifier({
      checksums: async (...args) => {
        stop.abort(new Error("somebody needs it"));
        return await checksums()(...args);
      },
      limiter: new Limiter(1),
      clock: systemClock,
      log: createLog("silent"),
    });
    await flip(join(path, "devices"));
    await expect(slow.check(path, undefined, stop.signal)).rejects.toThrow("somebody needs it");
    expect(await readVerification(path)).toEqual(before);
  });

  test("begins anew when what was known is half written or no JSON, and leaves nothing of a crash", async () => {
    const { path } = await snapshot("a");
    await writeFile(join(path, "verification.json"), '{"schema":1,');
    await writeFile(join(path, "verification.json.0123.tmp"), "");
    expect(await readVerification(path)).toBeUndefined();
    await open(path);
    await check(path);
    expect((await readdir(path)).sort()).toEqual([...FILES, "verification.json"].sort());
  });

  test("takes what a parent knows of a layer for true, not what the layer has become", async () => {
    const parent = await snapshot("a", { layers: 1 });
    await check(parent.path);
    await flip(join(parent.path, "disk-1.qcow2"));
    const child = await snapshot("b", { parent, layers: 2 });
    expect((await check(child.path)).damage).toMatchObject({ file: "disk-1.qcow2" });
  });
});

describe("a glance at a snapshot", () => {
  test("reads no layer that it has read before, nor one that nobody has read yet", async () => {
    const { path } = await snapshot("a");
    await open(path);
    expect(read).toEqual([]);
    await check(path);
    read.length = 0;
    await open(path);
    expect(read).toEqual([]);
  });

  test.for(FILES)("says that %s is missing", async (file) => {
    const { path } = await snapshot("a");
    await rm(join(path, file));
    await expect(open(path)).rejects.toThrow(new RegExp(`^${file} of .* is missing$`));
  });

  test.for(FILES.slice(1))("says that %s is shorter than it was", async (file) => {
    const { path } = await snapshot("a");
    const { size } = await stat(join(path, file));
    await truncate(join(path, file), size - 1);
    await expect(open(path)).rejects.toThrow(`has ${size - 1} bytes instead of ${size}`);
  });

  test("reads a layer that is another file than the one that was read", async () => {
    const [a, b] = [await snapshot("a"), await snapshot("b")];
    for (const { path } of [a, b]) await check(path);
    read.length = 0;
    const path = join(a.path, "disk-2.qcow2");
    await rm(path);
    await copyFile(join(b.path, "disk-2.qcow2"), path);
    await expect(open(a.path)).rejects.toThrow(/disk-2\.qcow2 of .* has other contents than were written/);
    expect(read).toEqual([path]);
    await open(b.path);
  });

  test("reads the layers of a copy, and believes what it reads", async () => {
    const { path } = await snapshot("a");
    await check(path);
    const copy = at("copy");
    await mkdir(copy);
    for (const file of await readdir(path)) await copyFile(join(path, file), join(copy, file));
    await open(copy);
    await flip(join(copy, "disk-1.qcow2"));
    await expect(open(copy)).rejects.toThrow(/disk-1/);
    await open(path);
  });

  test("refuses a layer that was written to before anybody had read it", async () => {
    const { path } = await snapshot("a");
    await utimes(join(path, "disk-2.qcow2"), 0, 0);
    await expect(open(path)).rejects.toThrow(/disk-2\.qcow2 of .* was written to after the snapshot was made/);
    expect((await check(path)).damage).toMatchObject({ file: "disk-2.qcow2" });
  });
});

test("a clone knows what its original knows, and is whose it is said to be", async () => {
  const original = await snapshot("a");
  const found = await check(original.path);
  const clone = await cloneSnapshot(original, at("clone"), "microvm-2");
  expect(await readVerification(clone.path)).toEqual(found);
  expect(clone.manifest.microvmId).toBe("microvm-2");
  expect(clone.manifest.layers.map(({ sha256 }) => sha256)).not.toContain(null);
  expect((await verifier().open(clone.path, "microvm-2", signal)).manifest).toEqual(clone.manifest);
  await expect(open(clone.path)).rejects.toThrow(/manifest\.json of .* is of microvm-2/);
  expect(await readVerification(clone.path)).toMatchObject({ damage: { file: "manifest.json" } });
});

test("layers that are to be merged are compared with what is known of them", async () => {
  const made = await snapshot("a");
  await verifier().requireLayers(made, 0, signal);
  expect(read).toEqual([]); // nothing is known yet
  await check(made.path);
  await verifier().requireLayers(made, 0, signal);
  await flip(at("a/disk-2.qcow2"));
  await expect(verifier().requireLayers(made, 0, signal)).rejects.toThrow(/^disk-2/);
  expect(await readVerification(made.path)).toMatchObject({ damage: { file: "disk-2.qcow2" } });
});

test("nothing is built on memory that is known to be damaged", async () => {
  const parent = await snapshot("a");
  expect((await snapshot("b", { parent, layers: 3 })).manifest.memory).toHaveLength(2);
  await flip(join(parent.path, "memory-1.diff"));
  await check(parent.path);
  expect((await snapshot("c", { parent, layers: 3 })).manifest.memory).toHaveLength(1);
});

test("a manifest in which any letter has changed is refused", async () => {
  const { manifest } = await snapshot("a");
  const text = snapshotManifestText(manifest);
  expect(parseSnapshotManifest(text)).toEqual(manifest);
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.integer({ min: 0, max: 6 }), (at, bit) => {
      const changed = Buffer.from(text);
      changed[at]! ^= 1 << bit;
      const parsed = parse(changed.toString("latin1"));
      expect(parsed === "incompatible" || "damage" in parsed).toBe(true);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (junk) => {
      expect(parse(junk)).toHaveProperty("damage");
    }),
  );
  const { schema: _, ...rest } = manifest;
  expect(parse(JSON.stringify({ schema: 2, ...rest }))).toBe("incompatible");
});

function parse(text: string): SnapshotManifest | { readonly damage: string } | "incompatible" {
  try {
    return parseSnapshotManifest(text);
  } catch (err) {
    expect(err).toMatchObject({ reason: "incompatible" });
    return "incompatible";
  }
}
