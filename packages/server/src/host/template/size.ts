import type { MachineShape } from "../driver/driver.ts";

/** What follows from an image's baseline memory. Source: the service's size table. */
const SIZES = [
  { memoryMib: 512, vcpus: 0.25, diskGib: 8 },
  { memoryMib: 1024, vcpus: 0.5, diskGib: 8 },
  { memoryMib: 2048, vcpus: 1, diskGib: 8 },
  { memoryMib: 4096, vcpus: 2, diskGib: 16 },
  { memoryMib: 8192, vcpus: 4, diskGib: 32 },
] as const;

export const MEMORY_SIZES_MIB: readonly number[] = SIZES.map((s) => s.memoryMib);

/**
 * The machine that a guest sees: its baseline times the burst. In emulation one vCPU always: threads that emulate
 * vCPUs contend for what one could use.
 */
export function machineShape(
  memoryMib: number,
  burst: number,
  accelerator: "kvm" | "tcg",
): MachineShape & { readonly diskGib: number } {
  const size = SIZES.find((s) => s.memoryMib === memoryMib);
  if (!size) throw new RangeError(`no size of ${memoryMib} MiB; sizes are ${MEMORY_SIZES_MIB.join(", ")}`);
  const vcpus = accelerator === "tcg" ? 1 : Math.max(1, Math.round(size.vcpus * burst));
  return { memoryMib: memoryMib * burst, vcpus, diskGib: size.diskGib };
}
