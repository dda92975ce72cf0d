import type { Faults, Operation } from "./faults.ts";
import type { FakeProcess } from "./machine.ts";

const never = (): Promise<never> => new Promise<never>(() => {});

/** One server's use of the machine. When the server is killed, what it waits for never comes. */
export class Session {
  readonly #faults: Faults;
  readonly #images = new Set<FakeProcess>();
  #over = false;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  crash(): void {
    this.#over = true;
    this.end();
  }

  /** What lives no longer than the driver. */
  end(): void {
    for (const image of this.#images) image.end("ended with its driver");
  }

  /** A process of the VMM's name, without anything of it but its memory. */
  image(of: FakeProcess): FakeProcess {
    const image = of.fork();
    this.#images.add(image);
    image.onEnd(() => this.#images.delete(image));
    return image;
  }

  async call<T>(work: () => Promise<T>): Promise<T> {
    if (this.#over) return await never();
    try {
      const result = await work();
      return this.#over ? await never() : result;
    } catch (err) {
      if (this.#over) await never();
      throw err;
    }
  }

  /**
   * Half way through a call.
   * @throws the signal's reason; what a test has armed; Error when the process is gone
   */
  async meet(operation: Operation, process: FakeProcess | undefined, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    await this.#faults.meet(operation, process, signal);
    if (this.#over) await never();
    signal?.throwIfAborted();
    if (process && !process.alive) throw new Error(`${operation}: the VMM ${await process.ended}`);
  }

  /** How a process ends, for this server. */
  async ended(process: FakeProcess): Promise<string> {
    const how = await process.ended;
    return this.#over ? await never() : `the VMM ${how}`;
  }
}
