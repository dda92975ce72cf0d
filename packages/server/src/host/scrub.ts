import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import type { Instance } from "./instance/instance.ts";
import { Upkeep } from "./instance/upkeep.ts";
import { readVerification } from "./snapshot/verification.ts";
import type { Verifier } from "./snapshot/verifier.ts";

export interface ScrubDeps {
  readonly verifier: Pick<Verifier, "check">;
  readonly clock: Clock;
  readonly log: Log;
  /** After how many days a restore point is read again; 0: never. */
  readonly days: number;
  readonly instances: () => readonly Pick<Instance, "scrub">[];
  /** Their folders. */
  readonly checkpoints: () => Promise<readonly string[]>;
}

const DAY_MS = 86_400_000;
/** How often it is seen whether something is due. */
const ROUND_MS = 10 * 60_000;
/** Bytes a second that are read for nobody's sake. */
const PACE = 32 << 20;

/**
 * Reads restore points that nobody uses, so that damage is known before they are needed: checkpoints soon after they were
 * made, and all of them again after some days, one at a time. What a suspension leaves, its instance reads itself.
 */
export class Scrub {
  readonly #deps: ScrubDeps;
  readonly #closing = new AbortController();
  /** Checkpoints to be read, and how fast. */
  readonly #waiting = new Map<string, number | undefined>();
  #current: { readonly path: string; readonly reading: Upkeep } | undefined;
  #working: Promise<void> | undefined;
  #cancel: (() => void) | undefined;

  constructor(deps: ScrubDeps) {
    this.#deps = deps;
  }

  /** Looks for what is due from time to time, until it is closed; at once for what was not read before the last stop. */
  start(): void {
    const { clock, log } = this.#deps;
    const again = (): void => {
      void this.round()
        .catch((err: unknown) => log.error({ err }, "restore points were not looked at"))
        .finally(() => {
          if (!this.#closing.signal.aborted) this.#cancel = clock.after(ROUND_MS, again);
        });
    };
    again();
  }

  /** A checkpoint that has just been made. */
  soon(path: string): void {
    this.#waiting.set(path, undefined);
    this.#work();
  }

  /** Resolves when nobody reads the checkpoint or is going to. */
  async forget(path: string): Promise<void> {
    this.#waiting.delete(path);
    if (this.#current?.path === path) await this.#current.reading.stop();
  }

  /** Has everything read that is due. */
  async round(): Promise<void> {
    const { clock, days, instances, checkpoints } = this.#deps;
    const since = new Date(days === 0 ? 0 : clock.now() - days * DAY_MS);
    for (const path of await checkpoints()) {
      const found = await readVerification(path);
      if (!found) this.soon(path);
      else if (new Date(found.checkedAt) < since) this.#waiting.set(path, PACE);
    }
    this.#work();
    await this.#working;
    for (const instance of instances()) {
      if (this.#closing.signal.aborted) return;
      await instance.scrub(since, PACE);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the host is closing"));
    this.#cancel?.();
    this.#waiting.clear();
    await this.#current?.reading.stop();
    // What is being read of an instance stops when that is let go of.
    await this.#working;
  }

  #work(): void {
    this.#working ??= this.#readAll().finally(() => {
      this.#working = undefined;
    });
  }

  async #readAll(): Promise<void> {
    const { verifier, log } = this.#deps;
    for (const [path, pace] of this.#waiting) {
      if (this.#closing.signal.aborted) return;
      this.#waiting.delete(path);
      const reading = new Upkeep();
      this.#current = { path, reading };
      reading.start(
        async (signal) => {
          await verifier.check(path, pace, signal);
        },
        (err) => log.warn({ err, path }, "checkpoint not checked"),
      );
      await reading.done();
      this.#current = undefined;
    }
  }
}
