import { statfs } from "node:fs/promises";
import { HostError } from "./host-client.ts";

/**
 * Refuses up front what would fill the disk half way through.
 * @throws HostError `no_space`
 */
export async function requireSpace(path: string, bytes: number, reservedMib: number, what: string): Promise<void> {
  const fs = await statfs(path);
  const free = fs.bavail * fs.bsize;
  const needed = bytes + reservedMib * 2 ** 20;
  if (free >= needed) return;
  const mib = (n: number): number => Math.ceil(n / 2 ** 20);
  throw new HostError(
    "no_space",
    `${what} needs up to ${mib(bytes)} MiB and ${reservedMib} MiB in reserve at ${path}, where ${mib(free)} MiB are free`,
  );
}
