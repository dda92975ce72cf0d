import { link, mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { systemClock } from "../../lib/clock.ts";
import { Limiter } from "../../lib/limiter.ts";
import { createLog } from "../../lib/log.ts";
import { hashFile } from "../artifacts.ts";
import type { Checksums } from "./checksums.ts";
import { type Snapshot, writeSnapshot } from "./snapshot.ts";
import { Verifier } from "./verifier.ts";

/** As the helper does it; `read` hears of every file. */
export const checksums =
  (read: string[] = []): Checksums =>
  async (paths) =>
    await Promise.all(
      paths.map(async (path) => {
        read.push(path);
        const st = await stat(path, { bigint: true }).catch(() => undefined);
        if (!st) return { damage: "is missing" };
        const sha256 = await hashFile(path);
        return { sha256, bytes: Number(st.size), inode: String(st.ino), changed: String(st.mtimeNs) };
      }),
    );

export interface SnapshotWish {
  readonly parent?: Snapshot;
  readonly layers?: number;
}

/** A folder for each test, in which snapshots are made, with files that are no VMM's but are written and linked as those. */
export function snapshotsIn(prefix: string) {
  const read: string[] = [];
  let dir: string;
  let verifier: Verifier;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), prefix));
    const log = createLog("silent");
    verifier = new Verifier({ checksums: checksums(read), limiter: new Limiter(1), clock: systemClock, log });
    read.length = 0;
  });
  afterEach(() => rm(dir, { recursive: true }));
  return {
    /** Files that were read from end to end. */
    read,
    verifier: (): Verifier => verifier,
    at: (name: string): string => join(dir, name),
    snapshot: (name: string, wish: SnapshotWish = {}): Promise<Snapshot> => snapshot(dir, name, wish),
  };
}

async function snapshot(dir: string, name: string, { parent, layers = 2 }: SnapshotWish): Promise<Snapshot> {
  const scratch = await mkdtemp(join(dir, "vmm-"));
  const disks = join(scratch, "disks");
  await mkdir(disks);
  for (let n = 1; n <= layers; n++) {
    const file = `disk-${n}.qcow2`;
    if (parent && n <= parent.manifest.layers.length) await link(join(parent.path, file), join(disks, file));
    else await writeFile(join(disks, file), `${name} layer ${n}`.repeat(1000));
  }
  const made = await writeSnapshot(join(dir, name), {
    microvmId: "microvm-1",
    templateId: "template-1",
    facts: { vmm: "any", accelerator: "tcg", vmmVersion: "10", machine: "microvm", cpu: "max" },
    logSeq: 0,
    parent,
    disks,
    layers,
    saveMemory: async (out, parents) => {
      await writeFile(out, `${name} memory on ${parents.length}`);
      const { size } = await stat(out);
      const sha256 = await hashFile(out);
      const pages = { dataPages: 1, scannedPages: 1, samePages: 0, livePages: 1 + parents.length };
      return { sha256, indexSha256: sha256, bytes: size, ...pages };
    },
    saveDevices: async () => {
      await writeFile(join(scratch, "devices"), `${name} devices`);
      return join(scratch, "devices");
    },
  });
  await rm(scratch, { recursive: true });
  return made;
}

/** Changes a bit as a disk does: nobody has written to the file. */
export async function flip(path: string): Promise<void> {
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  await writeFile(path, bytes);
  // Nanoseconds of a time that was set are gone: its second is what a backup keeps, too.
  await utimes(path, atime, mtime);
}
