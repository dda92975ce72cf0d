import type { Config } from "../../config.ts";
import type { ConnectionLimits } from "./rules.ts";

export interface SlotLimits {
  readonly connections: ConnectionLimits;
  /** Each direction: of every slot alike, or for each GiB of its guest's memory; undefined: unbounded. */
  readonly bytesPerSecond?: number;
  readonly bytesPerSecondPerGib?: number;
}

const MB = 1_000_000;
/** A gigabit. */
const SELF_HOSTED_MB = 125;
/** 1 MB/s for 512 MiB, 16 for 8 GiB. */
const AWS_MB_PER_GIB = 2;

export function slotLimits({
  quotaPreset,
  microvmBandwidth,
  microvmConnections,
  microvmConnectionRate,
}: Pick<Config, "quotaPreset" | "microvmBandwidth" | "microvmConnections" | "microvmConnectionRate">): SlotLimits {
  const connections = { most: microvmConnections, perSecond: microvmConnectionRate };
  return microvmBandwidth === 0 && quotaPreset === "aws"
    ? { connections, bytesPerSecondPerGib: AWS_MB_PER_GIB * MB }
    : { connections, bytesPerSecond: (microvmBandwidth || SELF_HOSTED_MB) * MB };
}
