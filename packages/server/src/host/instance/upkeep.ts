/** Work that is done for something while nobody uses it, and gives way when somebody does. */
export class Upkeep {
  #current: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  #working = false;

  /** @param failed told of errors, but for those of giving way */
  start(work: (signal: AbortSignal) => Promise<void>, failed: (err: unknown) => void): void {
    const stop = new AbortController();
    this.#working = true;
    const done = work(stop.signal)
      .catch((err: unknown) => {
        if (!stop.signal.aborted) failed(err);
      })
      .finally(() => {
        if (this.#current?.stop === stop) this.#working = false;
      });
    this.#current = { stop, done };
  }

  /** Nobody uses it, and all that was to be done has been done. */
  get resting(): boolean {
    return this.#current !== undefined && !this.#working;
  }

  /** Resolves when what was started has ended. */
  async done(): Promise<void> {
    await this.#current?.done;
  }

  /** Resolves when it has given way: soon, and not in the middle of a change. It rests no more until it is started. */
  async stop(): Promise<void> {
    const current = this.#current;
    this.#current = undefined;
    current?.stop.abort(new Error("somebody needs it"));
    await current?.done;
  }
}
