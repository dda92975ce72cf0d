import { createHash } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { readFile, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { RestorePointState } from "@torpor/protocol";
import { z } from "zod";
import { writeFileAtomic } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import { namesIn } from "../layout.ts";
import type { ChecksumOptions, Checksums, FileSum } from "./checksums.ts";
import { parseSnapshotManifest, type SnapshotManifest } from "./manifest.ts";

/** What a file of a snapshot lacks: `disk-1.qcow2` and `is missing`. */
export interface Damage {
  readonly file: string;
  readonly what: string;
}

type Layer = SnapshotManifest["layers"][number];
/** Which file it was when it was read: a layer that is still this file has not been read in vain. */
type Identity = Pick<Layer, "inode" | "changed">;

const layer = z.object({ sha256: z.string(), inode: z.string(), changed: z.string() });
const verification = z.object({
  schema: z.literal(1),
  checkedAt: z.iso.datetime(),
  damage: z.object({ file: z.string(), what: z.string() }).nullable(),
  layers: z.record(z.string(), layer),
});
/** What the last look at every byte of a snapshot found, beside the snapshot, which itself never changes. */
export type Verification = z.infer<typeof verification>;

export const MANIFEST = "manifest.json";
export const DEVICES = "devices";
const VERIFICATION = "verification.json";

/** Undefined when nobody has looked yet, or what was found is lost: then somebody looks again. */
export async function readVerification(folder: string): Promise<Verification | undefined> {
  try {
    return verification.safeParse(JSON.parse(await readFile(join(folder, VERIFICATION), "utf8"))).data;
  } catch (err) {
    if (errnoOf(err) === "ENOENT" || err instanceof SyntaxError) return undefined;
    throw err;
  }
}

export async function writeVerification(folder: string, found: Verification): Promise<void> {
  // What a crash left in the middle of this.
  for (const name of await namesIn(folder)) if (name.endsWith(".tmp")) await rm(join(folder, name), { force: true });
  await writeFileAtomic(join(folder, VERIFICATION), JSON.stringify(found));
}

export const restorePointState = (found: Verification | undefined): RestorePointState => ({
  state: found === undefined ? "unverified" : found.damage ? "damaged" : "verified",
  checkedAt: found?.checkedAt ?? null,
  damage: found?.damage ? `${found.damage.file} ${found.damage.what}` : null,
});

/** A snapshot's layers with all that has become known of them since it was made. */
export function knownLayers(manifest: SnapshotManifest, found: Verification | undefined): Layer[] {
  return manifest.layers.map((each) => ({ ...each, ...found?.layers[each.file] }));
}

/**
 * The manifest in a folder.
 * @throws HostError `incompatible`
 */
export async function readManifest(folder: string): Promise<SnapshotManifest | Damage> {
  let text: string;
  try {
    text = await readFile(join(folder, MANIFEST), "utf8");
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return { file: MANIFEST, what: "is missing" };
    if (errnoOf(err) === "EIO") return { file: MANIFEST, what: "cannot be read" };
    throw err;
  }
  const manifest = parseSnapshotManifest(text);
  return "damage" in manifest ? { file: MANIFEST, what: manifest.damage } : manifest;
}

/**
 * What can be told of a snapshot in a millisecond or two: device state as a whole, of all others that they are there in
 * their length, of layers that nobody has written to them since they were read as a whole. A layer that has been
 * replaced or written to is read. The pages of memory are compared with their sums as they are loaded.
 */
export async function glance(
  folder: string,
  manifest: SnapshotManifest,
  found: Verification | undefined,
  checksums: Checksums,
  signal: AbortSignal,
): Promise<Damage | undefined> {
  const { devices, memory } = manifest;
  const state = await readFile(join(folder, DEVICES)).catch(missing);
  if (!state) return { file: DEVICES, what: "is missing" };
  const lengths = { damage: lengthDamage(state.length, devices.bytes) };
  if (lengths.damage) return { file: DEVICES, what: lengths.damage };
  const sha256 = createHash("sha256").update(state).digest("hex");
  if (sha256 !== devices.sha256) return { file: DEVICES, what: otherContents(sha256, devices.sha256) };

  const layers = knownLayers(manifest, found);
  const stats = await Promise.all(
    [...memory, ...layers].map(async ({ file, bytes }) => {
      const st = await stat(join(folder, file), { bigint: true }).catch(missing);
      return { file, st, what: st ? lengthDamage(Number(st.size), bytes) : "is missing" };
    }),
  );
  for (const { file, what } of stats) if (what) return { file, what };

  const suspects = layers.filter((each, i) => !isSame(each, stats[memory.length + i]!.st!));
  for (const each of suspects) {
    const { st } = stats.find(({ file }) => file === each.file)!;
    if (each.sha256 === null && wasWritten(each, st!.mtimeNs)) return { file: each.file, what: WRITTEN };
  }
  return await layerDamage(folder, suspects, checksums, signal);
}

/** Reads those layers whose digests are known. */
export async function layerDamage(
  folder: string,
  layers: readonly Layer[],
  checksums: Checksums,
  signal: AbortSignal,
): Promise<Damage | undefined> {
  const known = layers.filter(({ sha256 }) => sha256 !== null);
  const sums = await checksums(
    known.map(({ file }) => join(folder, file)),
    { cached: true },
    signal,
  );
  return firstDamage(known, sums);
}

/**
 * Reads every byte of a snapshot from the device and writes down what it found. Of a layer whose digest was not known
 * yet, the page cache says what its VMM wrote.
 */
export async function verify(
  folder: string,
  manifest: SnapshotManifest | Damage,
  checksums: Checksums,
  options: ChecksumOptions,
  checkedAt: Date,
  signal: AbortSignal,
): Promise<Verification> {
  const before = await readVerification(folder);
  const found = await findings(folder, manifest, before, checksums, options, signal);
  signal.throwIfAborted();
  const result: Verification = { schema: 1, checkedAt: checkedAt.toISOString(), ...found };
  await writeVerification(folder, result);
  return result;
}

async function findings(
  folder: string,
  manifest: SnapshotManifest | Damage,
  before: Verification | undefined,
  checksums: Checksums,
  options: ChecksumOptions,
  signal: AbortSignal,
): Promise<Pick<Verification, "damage" | "layers">> {
  const layers = before?.layers ?? {};
  if ("what" in manifest) return { damage: manifest, layers };
  const paths = (files: readonly { readonly file: string }[]): string[] => files.map(({ file }) => join(folder, file));

  const known = knownLayers(manifest, before);
  const fresh = known.filter(({ sha256 }) => sha256 === null);
  const written = await checksums(paths(fresh), { ...options, cached: true }, signal);
  const expected = known.map((each) => {
    const sum = written[fresh.indexOf(each)];
    return sum && "sha256" in sum ? { ...each, sha256: sum.sha256 } : each;
  });
  const unreadable = firstDamage(fresh, written);
  if (unreadable) return { damage: unreadable, layers };
  for (const [i, each] of fresh.entries()) {
    const sum = written[i]!;
    if ("changed" in sum && wasWritten(each, BigInt(sum.changed)))
      return { damage: { file: each.file, what: WRITTEN }, layers };
  }

  const files = [{ file: DEVICES, ...manifest.devices }, ...manifest.memory, ...expected];
  const sums = await checksums(paths(files), options, signal);
  const read = { ...layers };
  for (const [i, { file, sha256, inode, changed }] of expected.entries()) {
    const sum = sums[files.length - expected.length + i]!;
    // With the digest that it should have: one that was never read is not there.
    if (sha256 !== null) read[file] = { sha256, ...("inode" in sum ? identityOf(sum) : { inode, changed }) };
  }
  return { damage: firstDamage(files, sums) ?? null, layers: read };
}

const identityOf = ({ inode, changed }: Identity): Identity => ({ inode, changed });

function firstDamage(
  files: readonly { readonly file: string; readonly bytes: number; readonly sha256: string | null }[],
  sums: readonly FileSum[],
): Damage | undefined {
  for (const [i, { file, bytes, sha256 }] of files.entries()) {
    const sum = sums[i]!;
    const what =
      "damage" in sum
        ? sum.damage
        : (lengthDamage(sum.bytes, bytes) ??
          (sha256 === null || sum.sha256 === sha256 ? undefined : otherContents(sum.sha256, sha256)));
    if (what !== undefined) return { file, what };
  }
  return undefined;
}

const WRITTEN = "was written to after the snapshot was made";

const lengthDamage = (found: number, expected: number): string | undefined =>
  found === expected ? undefined : `has ${found} bytes instead of ${expected}`;

export const otherContents = (found: string, expected: string): string =>
  `has other contents than were written: its sha256 is ${found.slice(0, 12)}…, not ${expected.slice(0, 12)}…`;

const isSame = ({ inode, changed }: Identity, st: BigIntStats): boolean =>
  inode === st.ino.toString() && changed === st.mtimeNs.toString();

/** By the second: that much of a time every backup keeps. */
const wasWritten = ({ changed }: Identity, mtimeNs: bigint): boolean =>
  BigInt(changed) / 1_000_000_000n !== mtimeNs / 1_000_000_000n;

function missing(err: unknown): undefined {
  if (errnoOf(err) === "ENOENT") return undefined;
  throw err;
}

/** What stands for a layer file in a manifest, but for its digest. */
export async function layerFacts(path: string): Promise<Omit<Layer, "sha256">> {
  const st = await stat(path, { bigint: true });
  return {
    file: basename(path),
    bytes: Number(st.size),
    inode: st.ino.toString(),
    changed: st.mtimeNs.toString(),
  };
}
