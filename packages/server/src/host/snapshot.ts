import { createHash } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder } from "../lib/atomic-file.ts";
import { errnoOf, messageOf } from "../lib/errors.ts";
import type { DriverFacts, InstanceDir, Vmm } from "./driver/driver.ts";
import { HostError } from "./host-client.ts";
import { compatibilityOf, readSnapshotManifest, type SnapshotManifest } from "./manifest.ts";
import { openUntrusted } from "./untrusted-file.ts";

/** Device state is some hundred KB; a VMM that writes more is not to fill our memory. */
const MAX_DEVICES = 64 << 20;

export interface SnapshotFiles {
  readonly path: string;
  readonly devices: string;
  readonly memory: string;
  readonly manifest: string;
}

export function snapshotFiles(dir: InstanceDir, number: number): SnapshotFiles {
  const path = join(dir.path, "snapshots", String(number));
  return {
    path,
    devices: join(path, "devices"),
    memory: join(path, "memory.diff"),
    manifest: join(path, "manifest.json"),
  };
}

/**
 * Makes a complete, durable snapshot of a paused VMM: it appears whole or not at all.
 * @throws HostError `no_space`; whatever else went wrong as it is
 */
export async function takeSnapshot(
  request: {
    readonly dir: InstanceDir;
    readonly number: number;
    readonly vmm: Vmm;
    readonly templateId: string;
    readonly facts: DriverFacts;
    /** The layers that this snapshot's disk consists of, the active one last. */
    readonly layers: readonly string[];
  },
  signal: AbortSignal,
): Promise<{ readonly manifest: SnapshotManifest; readonly dirtyBytes: number }> {
  const { dir, vmm } = request;
  const final = snapshotFiles(dir, request.number);
  const temporary = `${final.path}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true, mode: 0o700 });
  try {
    // Guest memory does not change while devices are saved: the vCPUs stand still.
    const [memory, devices] = await Promise.allSettled([
      vmm.saveMemory(join(temporary, "memory.diff"), signal),
      vmm.saveDevices().then((path) => keepDevices(path, join(temporary, "devices"))),
      syncDisk(join(dir.disks, request.layers.at(-1)!)),
    ]).then((results) => {
      for (const r of results) if (r.status === "rejected") throw r.reason;
      return results.map((r) => (r as PromiseFulfilledResult<unknown>).value) as [
        Awaited<ReturnType<Vmm["saveMemory"]>>,
        Awaited<ReturnType<typeof keepDevices>>,
        undefined,
      ];
    });
    const manifest: SnapshotManifest = {
      schema: 1,
      microvmId: dir.id,
      templateId: request.templateId,
      createdAt: new Date().toISOString(),
      compatibility: compatibilityOf(request.facts),
      devices,
      memory: { sha256: memory.sha256, bytes: memory.bytes },
      layers: [...request.layers],
    };
    await writeDurable(join(temporary, "manifest.json"), JSON.stringify(manifest));
    await syncFolder(temporary);
    // A snapshot of this number can only be the remnant of a suspend that was never committed.
    await rm(final.path, { recursive: true, force: true });
    await rename(temporary, final.path);
    await syncFolder(join(dir.path, "snapshots"));
    return { manifest, dirtyBytes: memory.dataPages * 4096 };
  } catch (err) {
    await rm(temporary, { recursive: true, force: true });
    if (errnoOf(err) === "ENOSPC" || /no space left on device/i.test(messageOf(err)))
      throw new HostError("no_space", "the disk is full: the snapshot could not be written", { cause: err });
    throw err;
  }
}

/** @throws HostError `not_found`, `corrupt` */
export async function openSnapshot(
  dir: InstanceDir,
  number: number,
): Promise<{ readonly files: SnapshotFiles; readonly manifest: SnapshotManifest }> {
  const files = snapshotFiles(dir, number);
  const manifest = await readSnapshotManifest(files.manifest);
  await verifyDevices(files.devices, manifest.devices.sha256);
  return { files, manifest };
}

/** @throws HostError `corrupt` */
export async function verifyDevices(path: string, sha256: string): Promise<void> {
  const found = createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
  if (found !== sha256) throw new HostError("corrupt", `${path} is corrupt: its sha256 is ${found}, not ${sha256}`);
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

/** From here on nobody writes the layer. Can be repeated. */
export async function sealLayer(path: string): Promise<void> {
  await chown(path, 0, 0);
  await chmod(path, 0o444);
}

async function syncDisk(path: string): Promise<undefined> {
  await using file = await openUntrusted(path, "sync");
  await file.sync();
  return undefined;
}

async function writeDurable(path: string, data: string | Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await writeFile(file, data);
  await file.sync();
}
