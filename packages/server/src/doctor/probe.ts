import type { Config } from "../config.ts";
import { loadGuestArtifacts } from "../host/artifacts.ts";
import { probeKvm } from "../host/driver/qemu/accelerator.ts";
import { createLog } from "../lib/log.ts";
import type { ProbeAccelerator } from "./facts.ts";

const TIMEOUT_MS = 8000;

/** Boots our own guest under KVM, anew each time: what the server found when it started may be out of date. */
export function probeWithGuest(config: Config): ProbeAccelerator {
  return async (signal) => {
    const { kernel, initramfs } = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
    const options = { qemu: config.qemuBinary, qemuVersion: "", cacheFile: "", timeoutMs: TIMEOUT_MS };
    return probeKvm({ ...options, kernel, initramfs, log: createLog("silent") }, signal);
  };
}
