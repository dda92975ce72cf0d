import type { Log } from "./log.ts";

/** Undo steps of something half made: `await using undo = new Cleanup(log)`, and `release()` when it is whole. */
export class Cleanup implements AsyncDisposable {
  #steps: [name: string, undo: () => unknown][] = [];
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  add(name: string, undo: () => unknown): void {
    this.#steps.push([name, undo]);
  }

  /** Success: the steps move to the caller, who owns them from now on. */
  release(): Cleanup {
    const moved = new Cleanup(this.#log);
    moved.#steps = this.#steps.splice(0);
    return moved;
  }

  /** Newest first. Never throws: that would replace the error that brought us here. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const [step, undo] of this.#steps.splice(0).reverse()) {
      try {
        await undo();
      } catch (err) {
        this.#log.error({ err, step }, "cleanup failed");
      }
    }
  }
}
