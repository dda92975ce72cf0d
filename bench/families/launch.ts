import { constants } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { loadConfig } from "../../packages/server/src/config.ts";
import { Agent } from "../../packages/server/src/host/agent/agent.ts";
import { loadGuestArtifacts } from "../../packages/server/src/host/artifacts.ts";
import { RUNC, RUNSC, type Runtime, startContainer, unpackRootfs, whyNot } from "../floor/container.ts";
import { RawVmm } from "../floor/raw-vmm.ts";
import { hostTscKhz } from "../floor/tsc.ts";
import { measured, type Sample } from "../harness/figure.ts";
import { Watch } from "../harness/stopwatch.ts";
import { BenchMicrovm, phasesOf } from "../lab/microvm.ts";
import type { BenchServer } from "../lab/server.ts";
import { type Bench, type Family, few, repeat } from "./bench.ts";

const PRIMED = "launch.primed.first_byte";
const UNPRIMED = "launch.unprimed.first_byte";
const COLD = "launch.cold_boot";
const CONTAINER = "launch.container";
const GVISOR = "launch.gvisor";

/** A pool refills behind a launch: so long it is given. */
const REFILL_MS = 2000;
/** Launches after which a server that primes has shown it. */
const TRIES = 3;
/** A boot takes seconds, and is only a reference. */
const BOOTS = 5;

export const launch: Family = {
  ids: [PRIMED, UNPRIMED, COLD, CONTAINER, GVISOR],
  async run(bench) {
    if (bench.wanted(PRIMED)) await primed(bench);
    if (bench.wanted(UNPRIMED)) await unprimed(bench);
    if (bench.wanted(COLD)) await coldBoot(bench);
    if (bench.wanted(CONTAINER)) await container(bench, CONTAINER, RUNC);
    if (bench.wanted(GVISOR)) await container(bench, GVISOR, RUNSC);
  },
};

interface Launched extends Sample {
  readonly reused: readonly string[];
}

/** RunMicrovm → token → request; ended again afterwards. */
async function launchOnce(server: BenchServer): Promise<Launched> {
  const watch = new Watch();
  const vm = await BenchMicrovm.run(server, (phase) => watch.mark(phase));
  await vm.get();
  watch.mark("request");
  const receipt = await vm.receipt("launch");
  await vm.terminate();
  const { value, phases } = watch.sample();
  return { value, phases: { ...phases, ...phasesOf(receipt) }, reused: receipt.reused };
}

async function primed(bench: Bench): Promise<void> {
  const server = await bench.server();
  await server.mode("usual");
  const found: Launched[] = [];
  for (let n = 0; found.length < bench.samples && n < bench.samples * 2; n++) {
    bench.signal.throwIfAborted();
    if (n === TRIES && found.length === 0) break;
    await sleep(REFILL_MS, undefined, { signal: bench.signal });
    const launched = await launchOnce(server);
    if (launched.reused.includes("primed")) found.push(launched);
  }
  if (found.length === 0) {
    bench.add({ id: PRIMED, unit: "ms", skipped: `no launch receipt of ${TRIES} says that it was primed` });
    return;
  }
  const raw = await bench.raw();
  await using vmm = await RawVmm.spawn(raw, await bench.rawSpec(), await raw.takeSlot());
  const floor = await wakes(bench, vmm, found.length);
  bench.add(measured(PRIMED, "ms", found, floor));
}

/** `cont` of a stopped VM that has answered before, and a request straight to it. */
export async function wakes(bench: Bench, vmm: RawVmm, count: number): Promise<Sample[]> {
  await vmm.loadDevices();
  await vmm.cont();
  await vmm.identify();
  await vmm.get();
  return await repeat(bench, count, async () => {
    await vmm.stop();
    const watch = new Watch();
    await vmm.cont();
    watch.mark("cont");
    await vmm.get();
    watch.mark("request");
    return watch.sample();
  });
}

async function unprimed(bench: Bench): Promise<void> {
  const server = await bench.server();
  await server.mode("unprimed");
  await launchOnce(server); // the first one compares the template with its digests
  const floor: Sample[] = [];
  const samples = await repeat(bench, bench.samples, async () => {
    floor.push(await rawLaunch(bench));
    return await launchOnce(server);
  });
  const honest = samples.filter(({ reused }) => !reused.includes("primed"));
  if (honest.length === 0) {
    bench.add({
      id: UNPRIMED,
      unit: "ms",
      skipped: "all launches were primed: the setting for an empty pool is unknown",
    });
    return;
  }
  bench.add(measured(UNPRIMED, "ms", honest, floor));
}

/** A new process restored from the template's own files, and a request straight to it. */
async function rawLaunch(bench: Bench): Promise<Sample> {
  const raw = await bench.raw();
  const spec = await bench.rawSpec();
  const slot = await raw.takeSlot();
  const watch = new Watch();
  await using vmm = await RawVmm.spawn(raw, spec, slot);
  watch.mark("spawn");
  await vmm.loadDevices();
  watch.mark("devices");
  await vmm.cont();
  watch.mark("cont");
  await vmm.identify();
  watch.mark("identity");
  await vmm.get();
  watch.mark("request");
  return watch.sample();
}

/** Kernel, agent, container, workload: from the process's start to the first answer. */
async function coldBoot(bench: Bench): Promise<void> {
  const raw = await bench.raw();
  const spec = await bench.rawSpec();
  const { config } = loadConfig();
  const artifacts = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
  const samples = await repeat(bench, few(bench, BOOTS), async () => {
    const slot = await raw.takeSlot();
    const disk = join(await raw.newFolder(), "disk.raw");
    await copyFile(spec.template.files.disk, disk, constants.COPYFILE_FICLONE);
    const watch = new Watch();
    const boot = {
      kernel: artifacts.kernel.path,
      initramfs: artifacts.initramfs.path,
      tscKhz: await hostTscKhz(),
      disk,
    };
    await using vmm = await RawVmm.spawnBoot(raw, spec, slot, boot);
    await vmm.cont();
    const agent = new Agent(vmm.address);
    await agent.hello(AbortSignal.any([bench.signal, AbortSignal.timeout(60_000)]));
    watch.mark("kernel and agent");
    await agent.start(
      {
        argv: ["python3", "-u", "/srv/app.py"],
        env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        user: "",
        workdir: "/",
        capabilities: "default",
        hostname: "localhost",
      },
      bench.signal,
    );
    await vmm.get();
    watch.mark("workload");
    return watch.sample();
  });
  bench.add(measured(COLD, "ms", samples));
}

async function container(bench: Bench, id: string, runtime: Runtime): Promise<void> {
  const reason = await whyNot(runtime);
  if (reason !== undefined) {
    bench.add({ id, unit: "ms", skipped: reason });
    return;
  }
  const raw = await bench.raw();
  const rootfs = await unpackRootfs(raw, (await bench.server()).template);
  const samples = await repeat(bench, bench.samples, () => startContainer(raw, rootfs, runtime));
  bench.add(measured(id, "ms", samples));
}
