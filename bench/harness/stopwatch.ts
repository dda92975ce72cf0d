import type { Sample } from "./figure.ts";

/** Times the steps of one sample. */
export class Watch {
  readonly #start = performance.now();
  #last = this.#start;
  readonly #phases: Record<string, number> = {};

  /** The time since the last mark was spent on `name`. */
  mark(name: string): void {
    const now = performance.now();
    this.#phases[name] = (this.#phases[name] ?? 0) + now - this.#last;
    this.#last = now;
  }

  /** The sample: from the beginning to the last mark. */
  sample(): Sample {
    return { value: this.#last - this.#start, phases: this.#phases };
  }
}
