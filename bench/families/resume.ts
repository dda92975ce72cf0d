import type { Receipt } from "@torpor/sdk";
import { type RawSnapshot, RawVmm } from "../floor/raw-vmm.ts";
import { measured, type Sample } from "../harness/figure.ts";
import { Watch } from "../harness/stopwatch.ts";
import { BenchMicrovm, phasesOf } from "../lab/microvm.ts";
import type { Mode } from "../lab/settings.ts";
import { type Bench, type Family, repeat } from "./bench.ts";
import { wakes } from "./launch.ts";

const STANDBY = "resume.standby";
const STORED = { "resume.stored.2mb": 2, "resume.stored.100mb": 100 } as const;

export const resume: Family = {
  ids: [STANDBY, ...Object.keys(STORED)],
  async run(bench) {
    if (bench.wanted(STANDBY)) await standby(bench);
    for (const [id, mb] of Object.entries(STORED)) if (bench.wanted(id)) await stored(bench, id, mb);
  },
};

interface Resumed extends Sample {
  readonly receipt: Receipt;
}

/** A request at the endpoint of a suspended microvm that holds so much, to its first byte. */
async function resumes(bench: Bench, mode: Mode, mb: number, count: number): Promise<Resumed[]> {
  const server = await bench.server();
  await server.mode(mode);
  const vm = await BenchMicrovm.run(server);
  await vm.get(`/fill?mb=${mb}`);
  const samples = await repeat(bench, count, async () => {
    await vm.suspend();
    const watch = new Watch();
    await vm.get();
    watch.mark("request");
    const receipt = await vm.receipt("resume");
    const { value, phases } = watch.sample();
    return { value, phases: { ...phases, ...phasesOf(receipt) }, receipt };
  });
  await vm.terminate();
  return samples;
}

async function standby(bench: Bench): Promise<void> {
  const tried = await resumes(bench, "usual", 2, Math.min(3, bench.samples));
  const isStandby = ({ receipt }: Resumed): boolean => receipt.reused.includes("standby");
  if (!tried.some(isStandby)) {
    bench.add({
      id: STANDBY,
      unit: "ms",
      skipped: `no resume receipt of ${tried.length} says that it came from standby`,
    });
    return;
  }
  const samples = (await resumes(bench, "usual", 2, bench.samples)).filter(isStandby);
  const raw = await bench.raw();
  await using vmm = await RawVmm.spawn(raw, await bench.rawSpec(), await raw.takeSlot());
  bench.add(measured(STANDBY, "ms", samples, await wakes(bench, vmm, samples.length)));
}

async function stored(bench: Bench, id: string, mb: number): Promise<void> {
  const samples = (await resumes(bench, "stored", mb, bench.samples)).filter(
    ({ receipt }) => !receipt.reused.includes("standby"),
  );
  if (samples.length === 0) {
    bench.add({ id, unit: "ms", skipped: "all resumes came from standby: the setting for none is unknown" });
    return;
  }
  const snapshot = await rawSnapshot(bench, mb);
  const floor = await repeat(bench, bench.samples, () => rawResume(bench, snapshot));
  const read = Math.round(samples.at(-1)!.receipt.bytesRead / 1e4) / 100;
  const details = { heldMb: mb, "read MB": read, "floor's MB": Math.round(snapshot.bytes / 1e4) / 100 };
  bench.add(measured(id, "ms", samples, floor, details));
}

async function rawSnapshot(bench: Bench, mb: number): Promise<RawSnapshot> {
  const raw = await bench.raw();
  await using vmm = await RawVmm.spawn(raw, await bench.rawSpec(), await raw.takeSlot());
  await vmm.loadDevices();
  await vmm.cont();
  await vmm.identify();
  await vmm.get(`/fill?mb=${mb}`);
  return await vmm.suspend();
}

/** A new process, the difference written into it, devices, `cont`, and a request straight to it. */
async function rawResume(bench: Bench, snapshot: RawSnapshot): Promise<Sample> {
  const raw = await bench.raw();
  const spec = await bench.rawSpec();
  const slot = await raw.takeSlot();
  const watch = new Watch();
  await using vmm = await RawVmm.spawn(raw, spec, slot, snapshot);
  watch.mark("spawn");
  await vmm.loadMemory(snapshot);
  watch.mark("memory");
  await vmm.loadDevices(snapshot);
  watch.mark("devices");
  await vmm.cont();
  watch.mark("cont");
  await vmm.get();
  watch.mark("request");
  return watch.sample();
}
