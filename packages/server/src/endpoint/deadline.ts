import type { Clock } from "../lib/clock.ts";
import { onAbort } from "./on-abort.ts";

/** Aborts with the outer signal, or after a time. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #stack = new DisposableStack();
  passed = false;

  constructor(clock: Clock, ms: number, outer: AbortSignal) {
    this.#stack.use(onAbort(outer, (reason) => this.#controller.abort(reason)));
    const cancel = clock.after(ms, () => {
      this.passed = true;
      this.#controller.abort(new DOMException("the endpoint's deadline passed", "TimeoutError"));
    });
    this.#stack.defer(cancel);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(): void {
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
