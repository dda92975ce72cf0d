import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import { DamagedError, HostError } from "../host-client.ts";
import { namesIn } from "../layout.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import { readManifest, readVerification, type Verification } from "../snapshot/verification.ts";
import type { Verifier } from "../snapshot/verifier.ts";

/**
 * The snapshots of one instance: folders with ascending numbers, of which the newest is the truth. An earlier one is
 * kept for as long as the newest has not been read as a whole.
 */
export class RestorePoints {
  readonly #folder: string;
  readonly #microvmId: string;
  readonly #verifier: Verifier;
  readonly #log: Log;
  /** The one that was opened or made last; what it holds does not change. */
  #known: Snapshot | undefined;

  constructor(folder: string, microvmId: string, verifier: Verifier, log: Log) {
    this.#folder = folder;
    this.#microvmId = microvmId;
    this.#verifier = verifier;
    this.#log = log;
  }

  /** Makes the snapshot of this number. */
  async add(number: number, make: (path: string) => Promise<Snapshot>): Promise<Snapshot> {
    this.#known = await make(this.#path(number));
    return this.#known;
  }

  /**
   * The snapshot as it was made, whatever its files are now.
   * @throws DamagedError when its manifest cannot be read, HostError `incompatible`
   */
  async open(number: number): Promise<Snapshot> {
    const path = this.#path(number);
    if (this.#known?.path === path) return this.#known;
    const manifest = await readManifest(path);
    if ("what" in manifest)
      throw await this.#withEarlier(number, new DamagedError("restore point", manifest, "its restore point"));
    this.#known = { path, manifest };
    return this.#known;
  }

  /**
   * The snapshot, to go on from.
   * @throws DamagedError, HostError `incompatible`
   */
  async usable(number: number, signal: AbortSignal): Promise<Snapshot> {
    try {
      this.#known = await this.#verifier.open(this.#path(number), this.#microvmId, signal);
      return this.#known;
    } catch (err) {
      throw await this.#withEarlier(number, err);
    }
  }

  /** What is to be thrown when it turned out not to be usable after all: by name, if a file of it is the reason. */
  async explain(number: number, err: unknown, signal: AbortSignal): Promise<unknown> {
    if (!(err instanceof HostError) || err.reason !== "corrupt" || err instanceof DamagedError) return err;
    try {
      await this.#verifier.require(await this.open(number), signal);
      return err;
    } catch (found) {
      return found instanceof DamagedError ? await this.#withEarlier(number, found) : err;
    }
  }

  /** What was found when it was last read as a whole. */
  async found(number: number): Promise<Verification | undefined> {
    return await readVerification(this.#path(number));
  }

  /** Whether nobody has read it as a whole since then, or ever. */
  async unchecked(number: number, since?: Date): Promise<boolean> {
    const found = await this.found(number);
    return found === undefined || (since !== undefined && new Date(found.checkedAt) < since);
  }

  /** Reads it as a whole when the host has time. One that is as it should be needs no earlier one any more. */
  async check(number: number, pace: number | undefined, signal: AbortSignal): Promise<void> {
    const { damage } = await this.#verifier.check(this.#path(number), pace, signal);
    signal.throwIfAborted();
    if (!damage) await this.tidy(number);
  }

  /** When the one before was made that could be gone back to. */
  async earlier(number: number): Promise<string | undefined> {
    const [first] = await this.#earlier(number);
    return first?.manifest.createdAt;
  }

  /**
   * The newest before this one that is as it was written, read as a whole.
   * @throws HostError `not_found`
   */
  async takeEarlier(number: number, signal: AbortSignal): Promise<Snapshot> {
    for (const snapshot of await this.#earlier(number)) {
      try {
        await this.#verifier.require(snapshot, signal);
        return snapshot;
      } catch (err) {
        if (!(err instanceof DamagedError)) throw err;
      }
    }
    throw new HostError("not_found", `microvm ${this.#microvmId} has no earlier restore point that is whole`);
  }

  /** Number of the newest; 0 when there is none. */
  async newest(): Promise<number> {
    return Math.max(0, ...(await this.#numbers()));
  }

  /**
   * Removes what is superseded or never came to be. Until the newest is known to be good, the one before it stays, and the
   * newest good one. What cannot be removed now is found later.
   */
  async tidy(newest: number): Promise<void> {
    try {
      const keep = new Set([String(newest), ...(await this.#worthKeeping(newest))]);
      for (const name of await namesIn(this.#folder))
        if (!keep.has(name)) await rm(join(this.#folder, name), { recursive: true, force: true });
    } catch (err) {
      this.#log.warn({ err }, "superseded snapshots not removed");
    }
  }

  async #worthKeeping(newest: number): Promise<string[]> {
    const found = await this.found(newest);
    if (found && !found.damage) return [];
    const kept: string[] = [];
    for (const number of (await this.#numbers()).filter((each) => each < newest)) {
      const before = await this.found(number);
      if (before?.damage) continue;
      if (kept.length === 0 || before) kept.push(String(number));
      if (before) break;
    }
    return kept;
  }

  /** Newest first. */
  async #numbers(): Promise<number[]> {
    const names = await namesIn(this.#folder);
    return names
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .sort((a, b) => b - a);
  }

  /** Those before, newest first, but for what is known to be damaged. */
  async #earlier(number: number): Promise<Snapshot[]> {
    const snapshots: Snapshot[] = [];
    for (const each of await this.#numbers()) {
      if (each >= number || (await this.found(each))?.damage) continue;
      const manifest = await readManifest(this.#path(each));
      if (!("what" in manifest)) snapshots.push({ path: this.#path(each), manifest });
    }
    return snapshots;
  }

  async #withEarlier(number: number, err: unknown): Promise<unknown> {
    return err instanceof DamagedError ? err.withEarlier(await this.earlier(number)) : err;
  }

  #path(number: number): string {
    return join(this.#folder, String(number));
  }
}
