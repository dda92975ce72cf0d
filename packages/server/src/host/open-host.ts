import { access, constants, stat } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import type { Config } from "../config.ts";
import { systemClock } from "../lib/clock.ts";
import { errnoOf, messageOf, TorporError } from "../lib/errors.ts";
import { Limiter } from "../lib/limiter.ts";
import type { Log } from "../lib/log.ts";
import { run } from "../lib/run.ts";
import { type GuestArtifacts, loadGuestArtifacts } from "./artifacts.ts";
import { createBuilder } from "./builder/builder.ts";
import { probeKvm, type Verdict } from "./driver/qemu/accelerator.ts";
import { GuestMemory } from "./driver/qemu/guest-memory.ts";
import { QemuDriver, qemuVersion } from "./driver/qemu/qemu-driver.ts";
import type { HostFacts } from "./host-client.ts";
import { HostLayout } from "./layout.ts";
import { LocalHost } from "./local-host.ts";
import { SlotPool } from "./network/slot-pool.ts";
import { helperChecksums } from "./snapshot/checksums.ts";
import { Verifier } from "./snapshot/verifier.ts";
import { Cells } from "./supply/cell.ts";
import { Supply } from "./supply/supply.ts";
import { WarmSet } from "./supply/warm.ts";
import { TemplateBuilder } from "./template/template-builder.ts";
import { TemplateStore } from "./template/template-store.ts";

/** The oldest VMM whose device state and late options the driver knows. */
export const QEMU_NEEDED = 10;
const KVM_PROBE_MS = 8000;
/** What KVM gives without being asked: peak is four times the baseline, as on AWS. */
const KVM_BURST = 4;
const SPARE_SLOTS = 2;
const EXTRA_SLOTS = 64;
/** Of the /16 that they are cut from. */
const MOST_SLOTS = 16_000;
/** Part of the host's memory that is kept warm without being asked. */
const WARM_PART = 0.15;

/**
 * Everything that this machine needs to run microvms, or an error that says what is missing and how to get it.
 * @throws TorporError `unavailable`
 */
export async function openHost(config: Config, log: Log, signal: AbortSignal): Promise<LocalHost> {
  if (process.getuid?.() !== 0)
    throw new TorporError(
      "denied",
      "microvms need root: network namespaces, taps and jails cannot be made without it; run `sudo torpor serve`",
    );
  const layout = new HostLayout(config.dataDir);
  const artifacts = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
  const version = await requireQemu(config.qemuBinary);
  await layout.create();
  const { accelerator, reason } = await chooseAccelerator(config, artifacts, version, log, signal);
  if (accelerator === "tcg")
    log.warn({ reason }, "microvms are emulated: slower, and no security boundary; run only code that you trust");
  const burst = config.burst || (accelerator === "kvm" ? KVM_BURST : 1);

  const memory = new GuestMemory(artifacts.helper.path, log);
  const driver = new QemuDriver({
    qemu: config.qemuBinary,
    helper: artifacts.helper.path,
    memory,
    accelerator,
    version,
    log,
  });
  const slots = new SlotPool({
    dataDir: config.dataDir,
    cidr: config.slotCidr,
    uidBase: config.vmmUidBase,
    // Beside those that run: builds, and what is kept warm. How many may run is control's to say.
    max: Math.min(MOST_SLOTS, 2 * config.maxMicrovms + EXTRA_SLOTS),
    spare: SPARE_SLOTS,
    log,
  });
  const cells = new Cells(layout, slots, log);
  const templates = new TemplateStore(layout, driver, artifacts.helper.path);
  const containers = createBuilder({ config, artifactsDir: config.artifactsDir, log });
  const builder = new TemplateBuilder({
    layout,
    driver,
    cells,
    slots,
    templates,
    builder: containers,
    artifacts,
    burst,
    buildInSlot: config.buildNetwork === "slot",
    readyGraceMs: config.readyGraceSeconds * 1000,
    reservedDiskMib: config.reservedDiskMib,
    log,
  });
  const facts: HostFacts = {
    guestMadeAt: await guestMadeAt(artifacts),
    architecture: process.arch === "arm64" ? "ARM_64" : "X86_64",
    isolation: accelerator === "kvm" ? "hardware" : "emulated",
    accelerator,
    vmmVersion: `QEMU ${version}`,
    guestKernelVersion: artifacts.kernel.version,
    agentVersion: artifacts.initramfs.agentVersion,
    burst,
  };
  const warm = new WarmSet({ maxBytes: warmBytes(config), clock: systemClock, log });
  const limiter = new Limiter(Math.max(2, 2 * availableParallelism()));
  const supply = new Supply({
    driver,
    cells,
    templates,
    warm,
    limiter,
    clock: systemClock,
    log,
    poolSize: config.poolSize,
    askFirst: config.poolRequest === "options",
  });
  const host = new LocalHost({
    facts,
    layout,
    driver,
    cells,
    supply,
    warm,
    limiter,
    templates,
    verifier: new Verifier({
      checksums: helperChecksums(artifacts.helper.path),
      limiter,
      clock: systemClock,
      log,
    }),
    slots,
    builder,
    memory,
    mergeLayers: async (out, diskBytes, layers, stop) => {
      await run(artifacts.helper.path, ["merge-layers", out, String(diskBytes), ...layers], { signal: stop });
    },
    clock: systemClock,
    standbyMs: config.standbySeconds * 1000,
    reservedDiskMib: config.reservedDiskMib,
    scrubDays: config.scrubDays,
    log,
  });
  await containers.recover();
  await host.start();
  return host;
}

/** Of its files the newest is what the guest is as old as. */
async function guestMadeAt({ kernel, initramfs }: GuestArtifacts): Promise<Date> {
  const times = await Promise.all([kernel, initramfs].map(async ({ path }) => (await stat(path)).mtimeMs));
  return new Date(Math.max(...times));
}

const warmBytes = (config: Pick<Config, "warmMemoryMib">): number =>
  config.warmMemoryMib === 0 ? totalmem() * WARM_PART : config.warmMemoryMib * 2 ** 20;

/** @throws TorporError `unavailable` when it is missing or too old */
export async function requireQemu(binary: string): Promise<string> {
  const mend = `install QEMU ${QEMU_NEEDED} or newer (scripts/setup.sh does it), or set qemu-binary`;
  let version: string;
  try {
    version = await qemuVersion(binary);
  } catch (err) {
    const what = errnoOf(err) === "ENOENT" ? `${binary} does not exist` : messageOf(err);
    throw new TorporError("unavailable", `QEMU is missing: ${what}; ${mend}`, { cause: err });
  }
  if (Number(version.split(".")[0]) < QEMU_NEEDED)
    throw new TorporError("unavailable", `QEMU ${version} (${binary}) is too old; ${mend}`);
  return version;
}

/** Which accelerator microvms get, and why, for people. */
export async function chooseAccelerator(
  config: Pick<Config, "accelerator" | "dataDir" | "qemuBinary">,
  artifacts: GuestArtifacts,
  version: string,
  log: Log,
  signal: AbortSignal,
): Promise<{ readonly accelerator: "kvm" | "tcg"; readonly reason: string }> {
  if (config.accelerator === "tcg") return { accelerator: "tcg", reason: "the setting accelerator says so" };
  const verdict = await kvmVerdict(config, artifacts, version, log, signal);
  if (verdict.kvm) return { accelerator: "kvm", reason: verdict.reason };
  if (config.accelerator === "kvm")
    throw new TorporError("unavailable", `KVM does not work here, and accelerator is kvm: ${verdict.reason}`);
  return { accelerator: "tcg", reason: verdict.reason };
}

async function kvmVerdict(
  config: Pick<Config, "dataDir" | "qemuBinary">,
  artifacts: GuestArtifacts,
  version: string,
  log: Log,
  signal: AbortSignal,
): Promise<Verdict> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (err) {
    return { kvm: false, reason: `/dev/kvm cannot be opened: ${errnoOf(err) ?? messageOf(err)}` };
  }
  const options = {
    qemu: config.qemuBinary,
    qemuVersion: version,
    kernel: artifacts.kernel,
    initramfs: artifacts.initramfs,
    cacheFile: join(config.dataDir, "kvm.json"),
    timeoutMs: KVM_PROBE_MS,
    log,
  };
  return await probeKvm(options, signal);
}
