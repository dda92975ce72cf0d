import type { Clock } from "../../lib/clock.ts";

interface Timer {
  readonly due: number;
  readonly callback: () => void;
}

/** A clock that stands still until a test steps it. */
export class FakeClock implements Clock {
  #wall = 1_789_483_142_026;
  #monotonic = 1000;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { due: this.#monotonic + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Time passes; timers fire in order, each followed by whatever it sets off. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    for (;;) {
      const next = [...this.#timers].filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)[0];
      if (!next) break;
      this.#timers.delete(next);
      this.#pass(Math.max(0, next.due - this.#monotonic));
      next.callback();
      await turns();
    }
    this.#pass(end - this.#monotonic);
    await turns();
  }

  /** Someone sets the wall clock. */
  jump(ms: number): void {
    this.#wall += ms;
  }

  /** The clock as one process sees it: what it waits for dies with it. */
  session(): { readonly clock: Clock; readonly end: () => void } {
    let alive = true;
    return {
      clock: {
        now: () => this.now(),
        monotonic: () => this.monotonic(),
        after: (ms, callback) => this.after(ms, () => alive && callback()),
      },
      end: () => {
        alive = false;
      },
    };
  }

  #pass(ms: number): void {
    this.#monotonic += ms;
    this.#wall += ms;
  }
}

/** Lets everything go on that waits for nothing but its turn. */
export async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
