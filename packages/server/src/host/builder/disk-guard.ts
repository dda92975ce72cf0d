import { stat, statfs } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { diskFull } from "./build-error.ts";

export interface DiskGuardOptions {
  /** The file that grows with what a build writes. */
  readonly store: string;
  readonly maxGrowthBytes: number;
  /** A folder on the file system that must keep room for others. */
  readonly folder: string;
  readonly reservedBytes: number;
}

const POLL_MS = 200;

/** What the file takes up on the disk, holes not counted. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512;
}

/** @throws BuildError DISK_STORAGE_FULL when less than `reservedBytes` are free */
export async function requireFree(folder: string, reservedBytes: number): Promise<void> {
  const fs = await statfs(folder);
  if (fs.bavail * fs.bsize < reservedBytes) throw diskFull("this host's disk is full");
}

/** Watches a build's appetite: its signal aborts with DISK_STORAGE_FULL when it has written more than it may. */
export class DiskGuard implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #stop = new AbortController();
  readonly #options: DiskGuardOptions;
  #watching: Promise<void> = Promise.resolve();

  private constructor(options: DiskGuardOptions) {
    this.#options = options;
  }

  static async watch(options: DiskGuardOptions): Promise<DiskGuard> {
    await requireFree(options.folder, options.reservedBytes);
    const guard = new DiskGuard(options);
    const before = await allocatedBytes(options.store);
    guard.#watching = guard.#watch(before).catch((err: unknown) => guard.#controller.abort(err));
    return guard;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#watching;
  }

  async #watch(before: number): Promise<void> {
    const { store, maxGrowthBytes, folder, reservedBytes } = this.#options;
    for (;;) {
      await delay(POLL_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
      if (this.#stop.signal.aborted) return;
      if ((await allocatedBytes(store)) - before > maxGrowthBytes)
        throw diskFull(`the build wrote more than ${Math.round(maxGrowthBytes / 2 ** 20)} MiB`);
      await requireFree(folder, reservedBytes);
    }
  }
}
