import type { Config } from "../config.ts";
import type { Report } from "./check.ts";
import { checkAll } from "./checks.ts";
import type { ProbeAccelerator } from "./facts.ts";
import { gatherFacts } from "./gather.ts";

export interface DoctorOptions {
  /** Boots a guest under KVM; without it the isolation stays unknown where /dev/kvm opens. */
  readonly probeAccelerator?: ProbeAccelerator;
}

/** Looks at this machine and says what a server with this configuration would lack on it. */
export async function runDoctor(config: Config, options: DoctorOptions, signal: AbortSignal): Promise<Report> {
  const checks = checkAll(await gatherFacts(config, options.probeAccelerator, signal));
  return { ok: checks.every((check) => check.status !== "fail"), checks };
}
