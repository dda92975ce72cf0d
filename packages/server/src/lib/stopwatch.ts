import type { Receipt } from "@torpor/protocol";

/** Collects a receipt while an operation runs. */
export class Stopwatch {
  readonly #operation: string;
  readonly #startedAt = new Date();
  readonly #start = performance.now();
  #last = this.#start;
  readonly #phases: { name: string; ms: number }[] = [];
  readonly #reused: string[] = [];
  bytesRead = 0;
  bytesWritten = 0;

  constructor(operation: string) {
    this.#operation = operation;
  }

  /** The time since the last mark was spent on `name`. */
  mark(name: string): void {
    const now = performance.now();
    this.#phases.push({ name, ms: round(now - this.#last) });
    this.#last = now;
  }

  /** The time since the last mark was spent on this, phase by phase. */
  include(part: Receipt): void {
    this.#phases.push(...part.phases);
    this.#reused.push(...part.reused);
    this.bytesRead += part.bytesRead;
    this.bytesWritten += part.bytesWritten;
    this.#last = performance.now();
  }

  reused(what: string): void {
    this.#reused.push(what);
  }

  receipt(): Receipt {
    return {
      operation: this.#operation,
      startedAt: this.#startedAt.toISOString(),
      totalMs: round(performance.now() - this.#start),
      phases: [...this.#phases],
      bytesRead: this.bytesRead,
      bytesWritten: this.bytesWritten,
      reused: [...this.#reused],
    };
  }
}

const round = (ms: number): number => Math.round(ms * 100) / 100;
