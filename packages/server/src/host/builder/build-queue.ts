/** Lets builds in: one an account, because they share a store, and so many in all; first come, first served. */
export class BuildQueue {
  readonly #max: number;
  readonly #running = new Set<string>();
  #waiting: { readonly account: string; readonly admit: () => void }[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** @throws the abort's reason while it waits */
  async run<T>(account: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    await this.#admission(account, signal);
    try {
      return await work();
    } finally {
      this.#running.delete(account);
      this.#next();
    }
  }

  #admission(account: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== me);
        reject(signal.reason);
      };
      const me = {
        account,
        admit: () => {
          signal.removeEventListener("abort", leave);
          resolve();
        },
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.push(me);
      this.#next();
    });
  }

  #next(): void {
    for (const candidate of [...this.#waiting]) {
      if (this.#running.size >= this.#max) return;
      if (this.#running.has(candidate.account)) continue;
      this.#running.add(candidate.account);
      this.#waiting = this.#waiting.filter((other) => other !== candidate);
      candidate.admit();
    }
  }
}
