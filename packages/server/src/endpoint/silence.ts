import type { Clock } from "../lib/clock.ts";

/** Somebody listens: `heard` with each byte that moves. Disposing of it ends that. */
export interface Listening extends Disposable {
  heard(): void;
}

/**
 * Ends what nobody has said anything on for a long time. One timer looks at all of it, so that a byte costs no more than
 * a number.
 */
export class Silence {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #listening = new Set<{ heardAt: number; readonly end: () => void }>();
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
  }

  /** @param end is called once, up to a quarter of the time late */
  listen(end: () => void): Listening {
    const one = { heardAt: this.#clock.monotonic(), end };
    this.#listening.add(one);
    this.#cancel ??= this.#lookLater();
    return {
      heard: () => {
        one.heardAt = this.#clock.monotonic();
      },
      [Symbol.dispose]: () => void this.#listening.delete(one),
    };
  }

  #lookLater(): () => void {
    return this.#clock.after(this.#ms / 4, () => {
      const now = this.#clock.monotonic();
      for (const one of this.#listening)
        if (now - one.heardAt >= this.#ms) {
          this.#listening.delete(one);
          one.end();
        }
      this.#cancel = this.#listening.size > 0 ? this.#lookLater() : undefined;
    });
  }
}
