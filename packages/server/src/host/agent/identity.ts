import { randomBytes } from "node:crypto";
import type { Agent } from "./agent.ts";

/** A restored guest answers within this; in emulation its first instructions are translated anew. */
const IDENTITY_MS = 30_000;
/** The guest's machine id stays as it is. */
export const KEEP_MACHINE_ID = new Uint8Array(16);

/** Clock, entropy, names: until this resolves, no traffic may reach the guest. */
export async function assumeIdentity(
  agent: Agent,
  microvmId: string,
  machineId: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(IDENTITY_MS)]);
  await agent.assumeIdentity({ unixMs: Date.now(), entropy: randomBytes(32), machineId, microvmId }, limited);
}
