/** Work that is done for something while nobody uses it, and gives way when somebody does. */
export class Upkeep {
  #current: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;

  /** @param failed told of errors, but for those of giving way */
  start(work: (signal: AbortSignal) => Promise<void>, failed: (err: unknown) => void): void {
    const stop = new AbortController();
    const done = work(stop.signal).catch((err: unknown) => {
      if (!stop.signal.aborted) failed(err);
    });
    this.#current = { stop, done };
  }

  /** Resolves when it has given way: soon, and not in the middle of a change. */
  async stop(): Promise<void> {
    const current = this.#current;
    this.#current = undefined;
    current?.stop.abort(new Error("somebody needs it"));
    await current?.done;
  }
}
