import { writeDurably } from "../floor/disk.ts";
import { measured, type Sample } from "../harness/figure.ts";
import { BenchMicrovm, phasesOf } from "../lab/microvm.ts";
import { type Bench, type Family, repeat } from "./bench.ts";

const AGAIN = "suspend.again";
const SIZES = { "suspend.2mb": 2, "suspend.20mb": 20, "suspend.100mb": 100 } as const;
/** What `suspend.again` has in memory, of which it changes one megabyte. */
const AGAIN_MB = 100;

export const suspend: Family = {
  ids: [...Object.keys(SIZES), AGAIN],
  async run(bench) {
    for (const [id, mb] of Object.entries(SIZES)) if (bench.wanted(id)) await suspends(bench, id, mb, mb);
    if (bench.wanted(AGAIN)) await suspends(bench, AGAIN, AGAIN_MB, 1);
  },
};

/** A microvm that holds so much, changes a part of it before each suspend, and is woken by a request. */
async function suspends(bench: Bench, id: string, heldMb: number, changedMb: number): Promise<void> {
  const server = await bench.server();
  await server.mode("usual");
  const vm = await BenchMicrovm.run(server);
  await vm.get(`/fill?mb=${heldMb}`);
  await vm.suspend(); // so that each sample is that of a microvm which has slept before
  const floor: Sample[] = [];
  let written = 0;
  const samples = await repeat(bench, bench.samples, async () => {
    await vm.get(`/touch?mb=${changedMb}`);
    const start = performance.now();
    await vm.suspend();
    const value = performance.now() - start;
    const receipt = await vm.receipt("suspend");
    written = receipt.bytesWritten;
    // The second suspend ought to write no more than what changed, whatever it does write.
    const bytes = id === AGAIN ? changedMb << 20 : written;
    floor.push({ value: await writeDurably(server.dataDir, bytes) });
    return { value, phases: phasesOf(receipt) };
  });
  await vm.terminate();
  bench.add(measured(id, "ms", samples, floor, { heldMb, changedMb, "written MB": Math.round(written / 1e4) / 100 }));
}
