import type { Usage } from "@torpor/protocol";
import { fieldsOf, numberIn, optionalNumberIn, textIn, unexpected } from "./fields.ts";

const PROCESSES: readonly Usage["process"][] = ["running", "standby", "none"];

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
  };
}
