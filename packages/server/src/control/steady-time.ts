import type { Clock } from "../lib/clock.ts";
import type { Settings } from "../store/settings.ts";

/** More than any correction of a working clock. */
const JUMP_MS = 60_000;
const SETTING = "steady-time-offset-ms";

/**
 * Wall-clock time without its jumps: when someone sets the clock by a day, or the machine slept, deadlines do not all
 * fall due at once. Follows the clock's small corrections, and keeps the sum of its jumps over restarts.
 */
export class SteadyTime {
  readonly #clock: Clock;
  readonly #settings: Pick<Settings, "set">;
  #offset: number;
  #wall: number;
  #monotonic: number;
  #jumped = false;

  private constructor(clock: Clock, settings: Pick<Settings, "set">, offset: number) {
    this.#clock = clock;
    this.#settings = settings;
    this.#offset = offset;
    this.#wall = clock.now();
    this.#monotonic = clock.monotonic();
  }

  static async load(clock: Clock, settings: Pick<Settings, "get" | "set">): Promise<SteadyTime> {
    const offset = Number((await settings.get(SETTING)) ?? 0);
    return new SteadyTime(clock, settings, Number.isSafeInteger(offset) ? offset : 0);
  }

  /** Milliseconds, comparable with other values of this method only. */
  now(): number {
    const wall = this.#clock.now();
    const monotonic = this.#clock.monotonic();
    const drift = Math.round(wall - this.#wall - (monotonic - this.#monotonic));
    if (Math.abs(drift) > JUMP_MS) {
      this.#offset += drift;
      this.#jumped = true;
    }
    this.#wall = wall;
    this.#monotonic = monotonic;
    return wall - this.#offset;
  }

  /** A steady time as the wall clock would show it, for people. */
  toDate(steady: number): Date {
    return new Date(steady + this.#offset);
  }

  /**
   * `true` once after a jump, when its size is safely kept: nothing is to be decided by time in this round.
   * Call it regularly.
   */
  async absorbJump(): Promise<boolean> {
    this.now();
    if (!this.#jumped) return false;
    await this.#settings.set(SETTING, String(this.#offset));
    this.#jumped = false;
    return true;
  }
}
