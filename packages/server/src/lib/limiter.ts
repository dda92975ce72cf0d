/** Lets so much work run at once; the rest waits in the order of asking, what is urgent before what is not. */
export class Limiter {
  readonly #max: number;
  #running = 0;
  readonly #urgent: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** @throws the signal's reason when it aborts before the work's turn comes */
  async run<T>(priority: "urgent" | "idle", signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#turn(priority === "urgent" ? this.#urgent : this.#idle, signal);
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      this.#running--;
      this.#next();
    }
  }

  #turn(queue: (() => void)[], signal: AbortSignal): Promise<void> {
    if (this.#running < this.#max && this.#urgent.length === 0 && this.#idle.length === 0) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener("abort", abort);
        this.#running++;
        resolve();
      };
      const abort = (): void => {
        queue.splice(queue.indexOf(go), 1);
        reject(signal.reason);
      };
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      queue.push(go);
    });
  }

  #next(): void {
    if (this.#running < this.#max) (this.#urgent.shift() ?? this.#idle.shift())?.();
  }
}
