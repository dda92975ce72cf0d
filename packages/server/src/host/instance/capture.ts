import type { FrozenMemory, Vmm } from "../driver/driver.ts";

/** What a running VMM was at one moment. */
export interface Capture {
  readonly memory: FrozenMemory;
  /** A file of the VMM's. */
  readonly devices: string;
}

/**
 * Stops a VMM for what must be of one moment and no longer: device state, an image of its memory, and a new layer for
 * its disk. It runs on in any case.
 * @param next empty layer
 * @param beforeSwitch is told before the disk is written to `next`
 */
export async function capture(
  vmm: Vmm,
  next: string,
  beforeSwitch: () => Promise<void>,
  signal: AbortSignal,
): Promise<Capture> {
  await vmm.pause();
  try {
    const memory = await vmm.freeze(signal);
    try {
      const devices = await vmm.saveDevices();
      await beforeSwitch();
      await vmm.switchDisk(next);
      return { memory, devices };
    } catch (err) {
      await memory[Symbol.asyncDispose]();
      throw err;
    }
  } finally {
    await vmm.run();
  }
}
