import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import { namesIn } from "../layout.ts";
import { openSnapshot, type Snapshot } from "../snapshot/snapshot.ts";

/** The snapshots of one instance: folders with ascending numbers, of which the newest is the truth. */
export class RestorePoints {
  readonly #folder: string;
  readonly #log: Log;
  /** The one that was opened or made last; what it holds does not change. */
  #known: Snapshot | undefined;

  constructor(folder: string, log: Log) {
    this.#folder = folder;
    this.#log = log;
  }

  /** Makes the snapshot of this number. */
  async add(number: number, make: (path: string) => Promise<Snapshot>): Promise<Snapshot> {
    this.#known = await make(this.#path(number));
    return this.#known;
  }

  /** @throws HostError `not_found`, `corrupt` */
  async open(number: number): Promise<Snapshot> {
    const path = this.#path(number);
    if (this.#known?.path !== path) this.#known = await openSnapshot(path);
    return this.#known;
  }

  /** Number of the newest; 0 when there is none. */
  async newest(): Promise<number> {
    const names = await namesIn(this.#folder);
    return Math.max(0, ...names.filter((name) => /^\d+$/.test(name)).map(Number));
  }

  /** Removes all others: what is superseded, or never came to be. Those that cannot be removed now are found later. */
  async keepOnly(number: number): Promise<void> {
    try {
      for (const name of await namesIn(this.#folder))
        if (name !== String(number)) await rm(join(this.#folder, name), { recursive: true, force: true });
    } catch (err) {
      this.#log.warn({ err }, "superseded snapshots not removed");
    }
  }

  #path(number: number): string {
    return join(this.#folder, String(number));
  }
}
