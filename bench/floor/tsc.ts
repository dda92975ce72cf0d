import { readFile } from "node:fs/promises";

/** The frequency that the guest's kernel is told, as the driver tells it. */
export async function hostTscKhz(): Promise<number> {
  const mhz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(await readFile("/proc/cpuinfo", "utf8"))?.[1];
  return mhz ? Math.round(Number(mhz) * 1000) : 2_000_000;
}
