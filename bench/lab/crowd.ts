import { once } from "../harness/once.ts";
import { BenchMicrovm } from "./microvm.ts";
import type { BenchServer } from "./server.ts";

/** How many are made at once: more would only wait for each other. */
const AT_ONCE = 4;

export interface CrowdSize {
  readonly running: number;
  readonly suspended: number;
}

/** Many microvms of one server, made when first asked for: some are suspended, others run and have nothing to do. */
export class Crowd {
  readonly suspended: () => Promise<readonly BenchMicrovm[]>;
  readonly running: () => Promise<readonly BenchMicrovm[]>;

  constructor(server: BenchServer, size: CrowdSize, signal: AbortSignal, say: (text: string) => void) {
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
    this.suspended = once(async () => {
      say(`making ${size.suspended} suspended microvms`);
      return await many(size.suspended, asleep, signal);
    });
    this.running = once(async () => {
      say(`making ${size.running} running microvms`);
      return await many(size.running, answered, signal);
    });
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
