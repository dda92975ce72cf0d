import { randomBytes } from "node:crypto";
import { chown, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, TorporError } from "../lib/errors.ts";
import type { TemplateFiles, VmmDir } from "./driver/driver.ts";

/** Longest path of a Unix socket, less the terminator. Source: unix(7). */
const SOCKET_PATH_MAX = 107;

/** Everything that outlives a VMM about one microvm on this host. */
export interface InstanceDir {
  readonly id: string;
  readonly path: string;
  /** Restore points, a folder each, named by their number. */
  readonly snapshots: string;
}

/** Where the host keeps what. Every folder is ours alone; a VMM sees only what its jail binds. */
export class HostLayout {
  readonly vms: string;
  readonly vmms: string;
  readonly templates: string;
  readonly checkpoints: string;
  readonly logs: string;

  constructor(dataDir: string) {
    this.vms = join(dataDir, "vms");
    this.vmms = join(dataDir, "vmms");
    this.templates = join(dataDir, "templates");
    this.checkpoints = join(dataDir, "checkpoints");
    this.logs = join(dataDir, "logs", "microvms");
    const longest = join(this.vmms, newVmmId(), "vmm.sock");
    if (longest.length > SOCKET_PATH_MAX)
      throw new TorporError(
        "invalid_input",
        `data-dir ${dataDir} is too long by ${longest.length - SOCKET_PATH_MAX} characters for the sockets in it`,
      );
  }

  async create(): Promise<void> {
    for (const path of [this.vms, this.vmms, this.templates, this.checkpoints, this.logs])
      await mkdir(path, { recursive: true, mode: 0o700 });
  }

  instance(id: string): InstanceDir {
    const path = join(this.vms, id);
    return { id, path, snapshots: join(path, "snapshots") };
  }

  vmm(id: string): VmmDir {
    const path = join(this.vmms, id);
    return { id, path, run: join(path, "run"), disks: join(path, "disks") };
  }

  template(id: string): TemplateFiles & { readonly manifest: string } {
    const path = join(this.templates, id);
    return {
      path,
      memory: join(path, "memory"),
      devices: join(path, "devices"),
      disk: join(path, "disk.raw"),
      manifest: join(path, "manifest.json"),
    };
  }

  checkpoint(id: string): string {
    return join(this.checkpoints, id);
  }

  logFile(microvmId: string): string {
    return join(this.logs, `${microvmId}.jsonl`);
  }

  async instanceIds(): Promise<string[]> {
    return await readdir(this.vms);
  }
}

export const newVmmId = (): string => `vmm-${randomBytes(8).toString("hex")}`;

/** @throws Error EEXIST when the instance is there already */
export async function createInstanceDir(dir: InstanceDir): Promise<void> {
  await mkdir(dir.path, { mode: 0o700 });
  await mkdir(dir.snapshots, { mode: 0o700 });
}

export async function createVmmDir(dir: VmmDir): Promise<void> {
  await mkdir(dir.path, { mode: 0o700 });
  // Readable below for the VMM, which sees it bound into its jail; its parents keep everybody else out.
  await mkdir(dir.disks, { mode: 0o755 });
}

/** A fresh run folder for a VMM of this user: nothing of an earlier one. */
export async function resetRunDir(dir: VmmDir, uid: number): Promise<void> {
  await rm(dir.run, { recursive: true, force: true });
  await mkdir(dir.run, { mode: 0o700 });
  await chown(dir.run, uid, uid);
}

/** The names in a folder; none when it is not there. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return [];
    throw err;
  }
}
