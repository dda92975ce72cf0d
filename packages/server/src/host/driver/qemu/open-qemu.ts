import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, messageOf, TorporError } from "../../../lib/errors.ts";
import type { DriverOptions } from "../open-driver.ts";
import { probeKvm, type Verdict } from "./accelerator.ts";
import { GuestMemory } from "./guest-memory.ts";
import { QemuDriver, qemuVersion } from "./qemu-driver.ts";

/** The oldest VMM whose device state and late options the driver knows. */
const QEMU_NEEDED = 10;
const KVM_PROBE_MS = 8000;

/** @throws TorporError `unavailable` when QEMU is missing or too old, or KVM is asked for and does not work */
export async function openQemu(options: DriverOptions, signal: AbortSignal): Promise<QemuDriver> {
  const { settings, artifacts, log } = options;
  const version = await requireQemu(settings.qemuBinary);
  const { accelerator, reason } = await chooseAccelerator(options, version, signal);
  if (accelerator === "tcg")
    log.warn({ reason }, "microvms are emulated: slower, and no security boundary; run only code that you trust");
  const helper = artifacts.helper.path;
  const memory = new GuestMemory(helper, log);
  return new QemuDriver({ qemu: settings.qemuBinary, helper, memory, accelerator, version, log });
}

/** @throws TorporError `unavailable` when it is missing or too old */
async function requireQemu(binary: string): Promise<string> {
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
async function chooseAccelerator(
  options: DriverOptions,
  version: string,
  signal: AbortSignal,
): Promise<{ readonly accelerator: "kvm" | "tcg"; readonly reason: string }> {
  const wanted = options.settings.accelerator;
  if (wanted === "tcg") return { accelerator: "tcg", reason: "the setting accelerator says so" };
  const verdict = await kvmVerdict(options, version, signal);
  if (verdict.kvm) return { accelerator: "kvm", reason: verdict.reason };
  if (wanted === "kvm")
    throw new TorporError("unavailable", `KVM does not work here, and accelerator is kvm: ${verdict.reason}`);
  return { accelerator: "tcg", reason: verdict.reason };
}

async function kvmVerdict(
  { settings, artifacts, log }: DriverOptions,
  version: string,
  signal: AbortSignal,
): Promise<Verdict> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (err) {
    return { kvm: false, reason: `/dev/kvm cannot be opened: ${errnoOf(err) ?? messageOf(err)}` };
  }
  const probe = {
    qemu: settings.qemuBinary,
    qemuVersion: version,
    kernel: artifacts.kernel,
    initramfs: artifacts.initramfs,
    cacheFile: join(settings.dataDir, "kvm.json"),
    timeoutMs: KVM_PROBE_MS,
    log,
  };
  return await probeKvm(probe, signal);
}
