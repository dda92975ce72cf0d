import { ApiError } from "@torpor/sdk";
import { measured } from "../harness/figure.ts";
import { BenchMicrovm, phasesOf } from "../lab/microvm.ts";
import { type Bench, type Family, few, repeat } from "./bench.ts";

const PAUSE = "fork.pause";
const TWENTY = "fork.20";
/** The pause must not depend on the size, so a large one is measured. */
const PARENT_MB = 100;
const FORKS = 20;

export const fork: Family = {
  ids: [PAUSE, TWENTY],
  async run(bench) {
    const server = await bench.server();
    await server.mode("usual");
    const parent = await BenchMicrovm.run(server);
    await parent.get(`/fill?mb=${PARENT_MB}`);
    if (bench.wanted(PAUSE)) await unlessUnknown(bench, PAUSE, () => pause(bench, parent));
    if (bench.wanted(TWENTY)) await unlessUnknown(bench, TWENTY, () => twenty(bench, parent));
    await parent.terminate();
  },
};

/** The parent exists: a 404 can only mean that the server has no such operation. */
async function unlessUnknown(bench: Bench, id: string, measure: () => Promise<void>): Promise<void> {
  try {
    await measure();
  } catch (err) {
    if (!(err instanceof ApiError && err.status === 404)) throw err;
    bench.add({ id, unit: "ms", skipped: "the server knows no such operation (404)" });
  }
}

async function pause(bench: Bench, parent: BenchMicrovm): Promise<void> {
  const server = await bench.server();
  const samples = await repeat(bench, bench.samples, async () => {
    await server.extension(`microvms/${parent.id}/checkpoints`, {}, bench.signal);
    const receipt = await parent.receipt("checkpoint");
    // The workload stands still from when it is frozen, and the whole guest for the pause.
    const still = receipt.phases.filter(({ name }) => name === "freeze" || name === "pause");
    if (still.length === 0) throw new Error(`the receipt of a checkpoint has no pause: ${JSON.stringify(receipt)}`);
    await parent.get("/touch?mb=1");
    return { value: still.reduce((sum, { ms }) => sum + ms, 0), phases: phasesOf(receipt) };
  });
  bench.add(measured(PAUSE, "ms", samples, [], { heldMb: PARENT_MB }));
}

async function twenty(bench: Bench, parent: BenchMicrovm): Promise<void> {
  const server = await bench.server();
  const samples = await repeat(bench, few(bench, 3), async () => {
    const start = performance.now();
    const answer = await server.extension(`microvms/${parent.id}/fork`, { count: FORKS }, bench.signal);
    const forked = performance.now();
    const forks = await Promise.all(
      forksIn(answer).map(async ({ microvmId, endpoint }) => {
        const vm = await BenchMicrovm.existing(server, microvmId, endpoint);
        await vm.get();
        return vm;
      }),
    );
    const end = performance.now();
    for (const vm of forks) await vm.terminate();
    return { value: end - start, phases: { fork: forked - start, "first bytes": end - forked } };
  });
  bench.add(measured(TWENTY, "ms", samples, [], { forks: FORKS, heldMb: PARENT_MB }));
}

function forksIn(answer: unknown): { readonly microvmId: string; readonly endpoint: string }[] {
  const { items } = answer as { items?: { microvmId: string; endpoint: string }[] };
  if (items?.length !== FORKS) throw new Error(`a fork of ${FORKS} answered ${JSON.stringify(answer).slice(0, 300)}`);
  return items;
}
