import { stat } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import type { Config } from "../config.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { TorporError } from "../lib/errors.ts";
import { Limiter } from "../lib/limiter.ts";
import type { Log } from "../lib/log.ts";
import { type GuestArtifacts, loadGuestArtifacts } from "./artifacts.ts";
import { type Builder, createBuilder } from "./builder/builder.ts";
import type { Driver } from "./driver/driver.ts";
import { openDriver } from "./driver/open-driver.ts";
import type { HostFacts } from "./host-client.ts";
import { HostLayout } from "./layout.ts";
import { LocalHost } from "./local-host.ts";
import { slotLimits } from "./network/limits.ts";
import { SlotPool, type Slots } from "./network/slot-pool.ts";
import { helperChecksums } from "./snapshot/checksums.ts";
import { Verifier } from "./snapshot/verifier.ts";
import { Cells } from "./supply/cell.ts";
import { Supply } from "./supply/supply.ts";
import { WarmSet } from "./supply/warm.ts";
import { TemplateBuilder } from "./template/template-builder.ts";
import { TemplateStore } from "./template/template-store.ts";

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
  await layout.create();
  const driver = await openDriver({ settings: config, artifacts, log }, signal);
  const slots = new SlotPool({
    dataDir: config.dataDir,
    cidr: config.slotCidr,
    uidBase: config.vmmUidBase,
    // Beside those that run: builds, and what is kept warm. How many may run is control's to say.
    max: Math.min(MOST_SLOTS, 2 * config.maxMicrovms + EXTRA_SLOTS),
    spare: SPARE_SLOTS,
    limits: slotLimits(config),
    log,
  });
  const containers = createBuilder({ config, artifactsDir: config.artifactsDir, log });
  return await startHost({ config, layout, artifacts, driver, slots, containers, clock: systemClock, log });
}

/** What a host stands on: each can be another one. */
export interface HostParts {
  readonly config: Config;
  readonly layout: HostLayout;
  readonly artifacts: GuestArtifacts;
  readonly driver: Driver;
  readonly slots: Slots;
  readonly containers: Builder;
  readonly clock: Clock;
  readonly log: Log;
}

/** Takes over what an earlier daemon left in the layout's folders, and is ready for calls. */
export async function startHost(parts: HostParts): Promise<LocalHost> {
  const { config, layout, artifacts, driver, slots, containers, clock, log } = parts;
  const { accelerator } = driver.facts;
  const burst = config.burst || (accelerator === "kvm" ? KVM_BURST : 1);
  const cells = new Cells(layout, slots, log);
  const templates = new TemplateStore(layout, driver, artifacts.helper.path);
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
    vmmVersion: `${driver.facts.vmm} ${driver.facts.vmmVersion}`,
    guestKernelVersion: artifacts.kernel.version,
    agentVersion: artifacts.initramfs.agentVersion,
    burst,
  };
  const warm = new WarmSet({ maxBytes: warmBytes(config), clock, log });
  const limiter = new Limiter(Math.max(2, 2 * availableParallelism()));
  const supply = new Supply({
    driver,
    cells,
    templates,
    warm,
    limiter,
    clock,
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
      clock,
      log,
    }),
    slots,
    builder,
    mergeLayers: (out, diskBytes, layers, stop) => driver.mergeLayers(out, diskBytes, layers, stop),
    clock,
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
