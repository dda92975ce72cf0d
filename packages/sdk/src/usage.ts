import type { RestorePointState, Usage } from "@torpor/protocol";
import { fieldsOf, numberIn, optionalNumberIn, optionalTextIn, textIn, unexpected } from "./fields.ts";

const PROCESSES: readonly Usage["process"][] = ["running", "standby", "none"];
const RESTORE_POINTS: readonly RestorePointState["state"][] = ["verified", "damaged", "unverified"];

/** @throws ApiError when it is none */
export function parseUsage(value: unknown): Usage {
  const what = "usage";
  const fields = fieldsOf(value);
  const found = PROCESSES.find((each) => each === fields.get("process"));
  if (found === undefined) throw unexpected(what);
  return {
    microvmId: textIn(fields, "microvmId", what),
    process: found,
    pssBytes: optionalNumberIn(fields, "pssBytes", what),
    privateBytes: optionalNumberIn(fields, "privateBytes", what),
    snapshotMemoryBytes: numberIn(fields, "snapshotMemoryBytes", what),
    diskBytes: numberIn(fields, "diskBytes", what),
    networkSentBytes: optionalNumberIn(fields, "networkSentBytes", what),
    networkReceivedBytes: optionalNumberIn(fields, "networkReceivedBytes", what),
    restorePoint: parseRestorePoint(fields.get("restorePoint"), what),
  };
}

/** @throws ApiError when it is something else */
export function parseRestorePoint(value: unknown, what: string): RestorePointState | null {
  if (value === null || value === undefined) return null;
  const fields = fieldsOf(value);
  const state = RESTORE_POINTS.find((each) => each === fields.get("state"));
  if (state === undefined) throw unexpected(what);
  return {
    state,
    checkedAt: optionalTextIn(fields, "checkedAt", what),
    damage: optionalTextIn(fields, "damage", what),
  };
}
