import type { Log } from "../../lib/log.ts";
import type { Driver } from "./driver.ts";
import { openQemu } from "./qemu/open-qemu.ts";

export interface DriverSettings {
  readonly dataDir: string;
  readonly qemuBinary: string;
  readonly accelerator: "auto" | "kvm" | "tcg";
}

/** What every guest is made of, and the program that does for a driver what Node cannot. */
export interface DriverArtifacts {
  readonly kernel: { readonly path: string; readonly sha256: string };
  readonly initramfs: { readonly path: string; readonly sha256: string };
  readonly helper: { readonly path: string };
}

export interface DriverOptions {
  readonly settings: DriverSettings;
  readonly artifacts: DriverArtifacts;
  readonly log: Log;
}

/**
 * The VMM of this machine. There is one kind; where there are more, this is who chooses.
 * @throws TorporError `unavailable` that says what is missing and how to get it
 */
export async function openDriver(options: DriverOptions, signal: AbortSignal): Promise<Driver> {
  return await openQemu(options, signal);
}
