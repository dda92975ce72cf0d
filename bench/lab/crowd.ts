import { BenchMicrovm } from "./microvm.ts";
import type { BenchServer } from "./server.ts";

/** How many are made at once: more would only wait for each other. */
const AT_ONCE = 4;

export interface CrowdSize {
  readonly running: number;
  readonly suspended: number;
}

/** Many microvms of one server: some run and have nothing to do, the others are suspended. */
export class Crowd {
  readonly running: readonly BenchMicrovm[];
  readonly suspended: readonly BenchMicrovm[];

  private constructor(running: readonly BenchMicrovm[], suspended: readonly BenchMicrovm[]) {
    this.running = running;
    this.suspended = suspended;
  }

  static async gather(
    server: BenchServer,
    size: CrowdSize,
    signal: AbortSignal,
    say: (text: string) => void,
  ): Promise<Crowd> {
    const answered = async (): Promise<BenchMicrovm> => {
      const vm = await BenchMicrovm.run(server);
      await vm.get();
      return vm;
    };
    const asleep = async (): Promise<BenchMicrovm> => {
      const vm = await answered();
      await vm.suspend();
      return vm;
    };
    say(`making ${size.suspended} suspended microvms`);
    const suspended = await many(size.suspended, asleep, signal);
    say(`making ${size.running} running microvms`);
    return new Crowd(await many(size.running, answered, signal), suspended);
  }
}

async function many<T>(count: number, make: () => Promise<T>, signal: AbortSignal): Promise<T[]> {
  const made: T[] = [];
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun < count) {
      signal.throwIfAborted();
      begun++;
      made.push(await make());
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return made;
}
