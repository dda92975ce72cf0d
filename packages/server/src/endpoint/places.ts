/** Counts what a microvm has open, so that no client can take more than its share of guest and host. */
export class Places {
  readonly #perMicrovm: number;
  readonly #taken = new Map<string, number>();

  constructor(perMicrovm: number) {
    this.#perMicrovm = perMicrovm;
  }

  /** A place, given back when it is disposed of; undefined when the microvm has none left. */
  take(microvmId: string): Disposable | undefined {
    const taken = this.#taken.get(microvmId) ?? 0;
    if (taken >= this.#perMicrovm) return undefined;
    this.#taken.set(microvmId, taken + 1);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        const left = (this.#taken.get(microvmId) ?? 1) - 1;
        if (left > 0) this.#taken.set(microvmId, left);
        else this.#taken.delete(microvmId);
      },
    };
  }
}
