import { EventEmitter, once } from "node:events";
import type { LogLine, LogOptions } from "../../host/host-client.ts";

/** What workloads have written; each greets first. It outlives servers, as the host's files do. */
export class FakeOutput {
  readonly #said = new Map<string, string[]>();
  readonly #ended = new Set<string>();
  readonly #changed = new EventEmitter().setMaxListeners(0);

  /** The workload writes a line. */
  say(id: string, text: string): void {
    const said = this.#said.get(id);
    if (said) said.push(text);
    else this.#said.set(id, [text]);
    this.#changed.emit(id);
  }

  /** There is no instance of it any more. */
  end(id: string): void {
    this.#ended.add(id);
    this.#changed.emit(id);
  }

  /** @throws the signal's reason */
  async *lines(id: string, { follow, after = 0 }: LogOptions, signal: AbortSignal): AsyncGenerator<LogLine> {
    for (let next = after; ; next++) {
      let text = this.#line(id, next);
      while (text === undefined) {
        if (!follow || this.#ended.has(id)) return;
        signal.throwIfAborted();
        await once(this.#changed, id, { signal });
        text = this.#line(id, next);
      }
      yield { position: next + 1, time: next + 1, stream: "stdout", text };
    }
  }

  #line(id: string, index: number): string | undefined {
    return index === 0 ? `hello from ${id}` : this.#said.get(id)?.[index - 1];
  }
}
