import { createHash } from "node:crypto";
import { chmod, chown, link, mkdir, open, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder } from "../../lib/atomic-file.ts";
import { errnoOf, messageOf } from "../../lib/errors.ts";
import { type DriverFacts, type MemoryDiff, type MemoryFile, SnapshotError } from "../driver/driver.ts";
import { HostError } from "../host-client.ts";
import { layerName } from "../supply/cell.ts";
import { compatibilityOf, type SnapshotManifest, snapshotManifestText } from "./manifest.ts";
import { openUntrusted } from "./untrusted-file.ts";
import { DEVICES, knownLayers, layerFacts, MANIFEST, readVerification, writeVerification } from "./verification.ts";

/**
 * A restore point: a folder that holds all that is not the template's, and never changes. What it shares with others
 * (earlier diffs, disk layers) is there as a second name of the same file, so that who needs what is the file system's
 * count, and the last one to go frees it. What a suspend leaves, a checkpoint and a fork's origin are this.
 */
export interface Snapshot {
  readonly path: string;
  readonly manifest: SnapshotManifest;
}

/** Device state is some hundred KB; a VMM that writes more is not to fill our memory. */
const MAX_DEVICES = 64 << 20;
/** Diffs that a snapshot consists of, at most: then the next one takes the place of all but the first. */
const MAX_DIFFS = 4;

export const devicesOf = ({ path }: Snapshot): string => join(path, DEVICES);

export const memoryOf = ({ path, manifest }: Snapshot): MemoryFile[] =>
  manifest.memory.map(({ file, indexSha256 }) => ({ path: join(path, file), indexSha256 }));

export const layersOf = ({ path, manifest }: Snapshot): string[] => manifest.layers.map(({ file }) => join(path, file));

export const memoryBytes = ({ manifest }: Pick<Snapshot, "manifest">): number =>
  manifest.memory.reduce((sum, m) => sum + m.bytes, 0);

/** What layers take on the disk, wherever else they have names; nothing when they are missing. */
export async function diskBytes(layers: readonly string[]): Promise<number> {
  const sizes = await Promise.all(layers.map((layer) => stat(layer).then(({ blocks }) => blocks * 512, none)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

function none(err: unknown): number {
  if (errnoOf(err) === "ENOENT") return 0;
  throw err;
}

/** What a snapshot is made of. */
export interface SnapshotParts {
  readonly microvmId: string;
  readonly templateId: string;
  readonly facts: DriverFacts;
  /** Number of the last line of the workload that the host has. */
  readonly logSeq: number;
  /** The snapshot that the guest continued from: what is in it is not written again. */
  readonly parent: Snapshot | undefined;
  /** Folder with the layers, and how many of them there are. */
  readonly disks: string;
  readonly layers: number;
  readonly saveMemory: (out: string, parents: readonly string[]) => Promise<MemoryDiff>;
  /** A file of the VMM's. */
  readonly saveDevices: () => Promise<string>;
}

/**
 * Makes a complete, durable snapshot at `path`: it appears whole or not at all.
 * @throws HostError `no_space`; whatever else went wrong as it is
 */
export async function writeSnapshot(path: string, parts: SnapshotParts): Promise<Snapshot> {
  const { parent } = parts;
  const found = parent && (await readVerification(parent.path));
  return await appear(path, async (folder) => {
    // Nothing is built on what is damaged: of the guest's memory all is written again.
    const kept = found?.damage ? [] : keptDiffs(parent);
    for (const { file } of kept) await link(join(parent!.path, file), join(folder, file));
    const file = `memory-${kept.length + 1}.diff`;
    // Guest memory does not change meanwhile: the vCPUs stand still, or it is an image of it.
    const [memory, devices, layers] = await all(
      parts.saveMemory(
        join(folder, file),
        kept.map((diff) => join(folder, diff.file)),
      ),
      parts.saveDevices().then((from) => keepDevices(from, join(folder, DEVICES))),
      linkLayers(parts.disks, folder, parts.layers),
    );
    const { sha256, indexSha256, bytes, dataPages: pages, livePages } = memory;
    const manifest: SnapshotManifest = {
      schema: 3,
      microvmId: parts.microvmId,
      templateId: parts.templateId,
      createdAt: new Date().toISOString(),
      compatibility: compatibilityOf(parts.facts),
      logSeq: parts.logSeq,
      devices,
      memory: [...kept, { file, sha256, indexSha256, bytes, pages, livePages }],
      layers: withDigests(layers, parent ? knownLayers(parent.manifest, found) : []),
    };
    return manifest;
  });
}

/** The same restore point once more, under another path, and another microvm's if need be: nothing is copied. */
export async function cloneSnapshot(
  { path: from, manifest }: Snapshot,
  path: string,
  microvmId = manifest.microvmId,
): Promise<Snapshot> {
  const found = await readVerification(from);
  return await appear(path, async (folder) => {
    for (const { file } of [{ file: DEVICES }, ...manifest.memory, ...manifest.layers])
      await link(join(from, file), join(folder, file));
    if (found && !found.damage) await writeVerification(folder, found);
    return { ...manifest, microvmId, layers: knownLayers(manifest, found) };
  });
}

/** The same restore point, `merged` being its disk's layer in place of all from `index` on. */
export async function cloneWithLayer(
  { path: from, manifest }: Snapshot,
  index: number,
  merged: string,
  path: string,
): Promise<Snapshot> {
  const below = knownLayers(manifest, await readVerification(from)).slice(0, index);
  return await appear(path, async (folder) => {
    for (const { file } of [{ file: DEVICES }, ...manifest.memory, ...below])
      await link(join(from, file), join(folder, file));
    const layer = join(folder, layerName(index + 1));
    await link(merged, layer);
    return { ...manifest, layers: [...below, { ...(await layerFacts(layer)), sha256: null }] };
  });
}

/** The snapshot's layers under second names in a VMM's folder, which it may read. */
export async function placeLayers({ path, manifest }: Snapshot, disks: string): Promise<string[]> {
  for (const { file } of manifest.layers) await link(join(path, file), join(disks, file));
  return manifest.layers.map(({ file }) => join(disks, file));
}

/** From here on nobody writes the snapshot's layers. Can be repeated. */
export async function sealLayers(snapshot: Snapshot): Promise<void> {
  for (const path of layersOf(snapshot)) {
    await chown(path, process.getuid!(), process.getgid!());
    await chmod(path, 0o444);
  }
}

/** Takes the device state out of the VMM's hands: a copy of ours, durable. */
export async function keepDevices(from: string, to: string): Promise<{ sha256: string; bytes: number }> {
  await using source = await openUntrusted(from);
  const { size } = await source.stat();
  if (size > MAX_DEVICES) throw new Error(`device state of ${size} bytes`);
  const bytes = await source.readFile();
  await writeDurable(to, bytes);
  await rm(from, { force: true });
  return { sha256: createHash("sha256").update(bytes).digest("hex"), bytes: bytes.length };
}

/** The earlier diffs that the next one builds on; none when it is to be complete. */
function keptDiffs(parent: Snapshot | undefined): SnapshotManifest["memory"] {
  if (!parent) return [];
  const { memory } = parent.manifest;
  const written = memory.reduce((sum, { pages }) => sum + pages, 0);
  const live = memory.at(-1)?.livePages ?? 0;
  // More is dead than alive: the next one is complete in itself.
  if (written > 2 * live + 1024) return [];
  return memory.length >= MAX_DIFFS ? memory.slice(0, 1) : memory;
}

type LayerFacts = Awaited<ReturnType<typeof layerFacts>>;

/** A driver's refusal of a snapshot as callers of the host know it; anything else as it is. */
export const asHostError = (err: unknown): unknown =>
  err instanceof SnapshotError ? new HostError(err.reason, err.message, { cause: err }) : err;

/** The folder is made under another name, and appears with its manifest when everything in it is durable. */
async function appear(path: string, fill: (folder: string) => Promise<SnapshotManifest>): Promise<Snapshot> {
  const temporary = `${path}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { mode: 0o700 });
  try {
    const manifest = await fill(temporary);
    await writeDurable(join(temporary, MANIFEST), snapshotManifestText(manifest));
    await syncFolder(temporary);
    await rename(temporary, path);
    await syncFolder(join(path, ".."));
    return { path, manifest };
  } catch (err) {
    await rm(temporary, { recursive: true, force: true });
    await rm(path, { recursive: true, force: true }); // renamed, and not durable
    if (errnoOf(err) === "ENOSPC" || /no space left on device/i.test(messageOf(err)))
      throw new HostError("no_space", "the disk is full: the snapshot could not be written", { cause: err });
    throw err;
  }
}

async function linkLayers(disks: string, folder: string, layers: number): Promise<LayerFacts[]> {
  const paths = Array.from({ length: layers }, (_, i) => join(disks, layerName(i + 1)));
  for (let n = 1; n <= layers; n++) {
    const path = join(disks, layerName(n));
    if (n === layers) {
      // The one that the VMM wrote: what it flushed is in the page cache.
      await using file = await openUntrusted(path, "sync");
      await file.datasync();
    }
    await link(path, join(folder, layerName(n)));
  }
  return await Promise.all(paths.map(layerFacts));
}

/** Layers that the parent has as well are what it knows of them: damage since then is not taken for what was written. */
function withDigests(layers: readonly LayerFacts[], parents: SnapshotManifest["layers"]): SnapshotManifest["layers"] {
  return layers.map((layer, i) => {
    const known = parents[i];
    return known?.inode === layer.inode ? known : { ...layer, sha256: null };
  });
}

/** Waits for all of them, also when one fails: what goes on must not write into a folder that is being removed. */
async function all<T extends readonly unknown[]>(...work: { [K in keyof T]: Promise<T[K]> }): Promise<T> {
  const results = await Promise.allSettled(work);
  for (const r of results) if (r.status === "rejected") throw r.reason;
  return results.map((r) => (r as PromiseFulfilledResult<unknown>).value) as unknown as T;
}

async function writeDurable(path: string, data: string | Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await writeFile(file, data);
  await file.datasync();
}
