interface Waiter {
  readonly callback: (reason: unknown) => void;
}

/**
 * Those who wait for a signal, in a set of ours: the signals of a microvm and of a connection have many at once, and
 * EventTarget walks all of its listeners for each one that comes or goes.
 */
class Waiters {
  readonly #signal: AbortSignal;
  readonly #all = new Set<Waiter>();
  readonly #listener = (): void => {
    waiting.delete(this.#signal);
    for (const waiter of this.#all) {
      this.#all.delete(waiter);
      callOne(waiter, this.#signal.reason);
    }
  };

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", this.#listener);
  }

  add(waiter: Waiter): void {
    this.#all.add(waiter);
  }

  /** With nobody left nothing of ours stays at the signal, which might keep it in memory. */
  delete(waiter: Waiter): void {
    if (!this.#all.delete(waiter) || this.#all.size > 0) return;
    this.#signal.removeEventListener("abort", this.#listener);
    if (waiting.get(this.#signal) === this) waiting.delete(this.#signal);
  }
}

const waiting = new WeakMap<AbortSignal, Waiters>();
const NOTHING: Disposable = { [Symbol.dispose]: () => {} };

/** Calls back when the signal aborts, at once if it has; until the result is disposed of. */
export function onAbort(signal: AbortSignal, callback: (reason: unknown) => void): Disposable {
  if (signal.aborted) {
    callback(signal.reason);
    return NOTHING;
  }
  let all = waiting.get(signal);
  if (all === undefined) {
    all = new Waiters(signal);
    waiting.set(signal, all);
  }
  const waiter = { callback };
  all.add(waiter);
  return { [Symbol.dispose]: () => all.delete(waiter) };
}

/** One that throws keeps nobody else from hearing of it. */
function callOne({ callback }: Waiter, reason: unknown): void {
  try {
    callback(reason);
  } catch (err) {
    queueMicrotask(() => {
      throw err;
    });
  }
}
