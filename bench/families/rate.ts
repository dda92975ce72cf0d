import { RawVmm } from "../floor/raw-vmm.ts";
import { measured, round, type Sample } from "../harness/figure.ts";
import { BenchMicrovm } from "../lab/microvm.ts";
import { DEFAULT_SAMPLES } from "../options.ts";
import { type Bench, type Family, few, repeat } from "./bench.ts";

const RATE = "launch.rate";
const WINDOW_MS = 30_000;
/** A rate is counted in each of these parts of the window. */
const PARTS = 6;
/** Enough to keep the machine busy. */
const AT_ONCE = 4;
const FLOORS = 10;

export const rate: Family = {
  ids: [RATE],
  async run(bench) {
    const floor = await floorRates(bench);
    const server = await bench.server();
    await server.mode("usual");
    const windowMs = WINDOW_MS * Math.min(1, bench.samples / DEFAULT_SAMPLES);
    const begin = performance.now();
    const finished: number[] = [];
    const ends: Promise<void>[] = [];
    const worker = async (): Promise<void> => {
      for (;;) {
        bench.signal.throwIfAborted();
        const vm = await BenchMicrovm.run(server);
        await vm.get();
        const at = performance.now() - begin;
        const ended = vm.terminate();
        ended.catch(() => {}); // awaited below
        ends.push(ended);
        if (at > windowMs) return;
        finished.push(at);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    await Promise.all(ends);
    const partMs = windowMs / PARTS;
    const samples = Array.from({ length: PARTS }, (_, part) => ({
      value: finished.filter((at) => Math.floor(at / partMs) === part).length / (partMs / 1000),
    }));
    bench.add(
      measured(RATE, "1/s", samples, floor, {
        seconds: windowMs / 1000,
        launches: finished.length,
        "launches/s overall": round(finished.length / (windowMs / 1000)),
      }),
    );
  },
};

/** Launches that a second of one core would be enough for, if they were QEMU alone. */
async function floorRates(bench: Bench): Promise<Sample[]> {
  const raw = await bench.raw();
  const spec = await bench.rawSpec();
  return await repeat(bench, few(bench, FLOORS), async () => {
    await using vmm = await RawVmm.spawn(raw, spec, await raw.takeSlot());
    await vmm.loadDevices();
    await vmm.cont();
    await vmm.identify();
    await vmm.get();
    return { value: 1000 / (await vmm.cpuMs()) };
  });
}
