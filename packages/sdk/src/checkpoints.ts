import type {
  Checkpoint,
  CheckpointPage,
  CheckpointState,
  ForkedMicrovm,
  Forks,
  Lineage,
  Rollback,
} from "@torpor/protocol";
import { OPERATIONS } from "@torpor/protocol";
import { fieldsOf, listIn, oneOf, optionalNumberIn, optionalTextIn, textIn } from "./fields.ts";
import { parseRestorePoint } from "./usage.ts";

const STATES: readonly CheckpointState[] = ["CREATING", "AVAILABLE", "FAILED", "DELETING"];
const MICROVM_STATES = OPERATIONS.GetMicrovm.output.state.shape.values;

/** @throws ApiError when it is none */
export function parseCheckpoint(value: unknown): Checkpoint {
  const what = "checkpoint";
  const fields = fieldsOf(value);
  const text = (name: string): string => textIn(fields, name, what);
  return {
    checkpointId: text("checkpointId"),
    microvmId: text("microvmId"),
    name: optionalTextIn(fields, "name", what),
    state: oneOf(STATES, fields.get("state"), what),
    stateReason: optionalTextIn(fields, "stateReason", what),
    imageArn: text("imageArn"),
    imageVersion: text("imageVersion"),
    parentCheckpointId: optionalTextIn(fields, "parentCheckpointId", what),
    memoryBytes: optionalNumberIn(fields, "memoryBytes", what),
    diskBytes: optionalNumberIn(fields, "diskBytes", what),
    restorePoint: parseRestorePoint(fields.get("restorePoint"), what),
    createdAt: text("createdAt"),
  };
}

/** @throws ApiError when it is none */
export function parseCheckpointPage(value: unknown): CheckpointPage {
  const what = "list of checkpoints";
  const fields = fieldsOf(value);
  return {
    items: listIn(fields, "items", what).map(parseCheckpoint),
    nextToken: optionalTextIn(fields, "nextToken", what),
  };
}

/** @throws ApiError when it is something else */
export function parseForks(value: unknown): Forks {
  const what = "answer to a fork";
  const fields = fieldsOf(value);
  return {
    microvmId: textIn(fields, "microvmId", what),
    checkpointId: textIn(fields, "checkpointId", what),
    items: listIn(fields, "items", what).map(parseFork),
  };
}

function parseFork(value: unknown): ForkedMicrovm {
  const what = "fork";
  const fields = fieldsOf(value);
  return {
    microvmId: textIn(fields, "microvmId", what),
    state: oneOf(MICROVM_STATES, fields.get("state"), what),
    stateReason: optionalTextIn(fields, "stateReason", what),
    endpoint: textIn(fields, "endpoint", what),
    startedAt: textIn(fields, "startedAt", what),
  };
}

/** @throws ApiError when it is something else */
export function parseRollback(value: unknown): Rollback {
  const what = "answer to a rollback";
  const fields = fieldsOf(value);
  return {
    microvmId: textIn(fields, "microvmId", what),
    checkpointId: textIn(fields, "checkpointId", what),
    state: oneOf(MICROVM_STATES, fields.get("state"), what),
  };
}

/** @throws ApiError when it is none */
export function parseLineage(value: unknown): Lineage {
  const what = "lineage";
  const fields = fieldsOf(value);
  const from = fields.get("forkedFrom") ?? null;
  const origin = fieldsOf(from);
  return {
    microvmId: textIn(fields, "microvmId", what),
    forkedFrom:
      from === null
        ? null
        : { microvmId: textIn(origin, "microvmId", what), checkpointId: textIn(origin, "checkpointId", what) },
    rolledBackTo: optionalTextIn(fields, "rolledBackTo", what),
  };
}
