import type { Log } from "../lib/log.ts";

/** Work that goes on after the request that began it was answered. Nothing here floats: close() waits for all. */
export class Tasks {
  readonly #running = new Set<Promise<void>>();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** A task that throws is a bug or a broken store; the reconciler puts right what it left. */
  start(name: string, work: () => Promise<unknown>): void {
    const task = work().then(
      () => {},
      (err: unknown) => this.#log.error({ err, task: name }, "background task failed"),
    );
    this.#running.add(task);
    void task.finally(() => this.#running.delete(task));
  }

  /** Resolves when nothing runs any more, what was started meanwhile included. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
