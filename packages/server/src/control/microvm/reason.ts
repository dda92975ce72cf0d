import type { HookError, InstanceExit } from "../../host/host-client.ts";

/** What `stateReason` says. Source: recorded responses; where none is known, sentences of the same make. */
export const REASON = {
  requested: "Success.",
  lifetime: "MicroVM exceeded maximum lifetime.",
  /** Our own words from here on. */
  launchFailed: "The MicroVM could not be started because of an internal error on its host.",
  launchNoRoom: "The MicroVM could not be started because its host has no room for it.",
  launchInterrupted:
    "The MicroVM's start was interrupted by a restart of the service, so its run hook may not have finished.",
  forkUnusable: "The MicroVM could not be started: the checkpoint that it was forked from cannot be used on its host.",
  suspendNoRoom: "The MicroVM could not be suspended: its host has no disk space for the snapshot. It runs on.",
  suspendFailed: "The MicroVM could not be suspended because of an error on its host. It runs on.",
  suspendInterrupted: "The MicroVM's suspension was interrupted by a restart of the service. It runs on.",
  rollbackFailed: "The MicroVM could not be rolled back because of an error on its host. It runs on as it was.",
  rollbackInterrupted: "The MicroVM's rollback was interrupted before it had begun on its host. It runs on as it was.",
  instanceLost: "The MicroVM's virtual machine ended unexpectedly.",
  hostRestarted: "The MicroVM's virtual machine was not running any more after a restart of its host or the service.",
  snapshotLost: "The MicroVM's suspended state is no longer on its host.",
  checkpointNoRoom: "The checkpoint could not be made: its host has no disk space for it.",
  checkpointFailed: "The checkpoint could not be made because of an error on its host.",
  checkpointDamaged: "The checkpoint could not be made: a file is damaged.",
  checkpointNoEarlier: "The checkpoint could not be made: its host has no earlier restore point of the MicroVM.",
  checkpointInterrupted: "The making of the checkpoint was interrupted.",
  checkpointLost: "The checkpoint is no longer on its host.",
} as const;

const ADVICE = "Please check your hook endpoint and application logs for more details.";

export function hookReason({ hook, failure }: HookError): string {
  const name = `${hook.charAt(0).toUpperCase()}${hook.slice(1)} lifecycle hook`;
  switch (failure.kind) {
    case "status":
      return `${name} returned HTTP status ${failure.status}. ${ADVICE}`;
    case "refused":
      return `${name} connection was refused. ${ADVICE}`;
    case "timeout":
      return `${name} timed out. ${ADVICE}`;
    case "failed":
      return `${name} failed. ${ADVICE}`;
    default:
      return failure satisfies never;
  }
}

export function exitReason(exit: InstanceExit): string {
  return exit.kind === "workload" ? `Container Stopped with Exit Code: ${exit.exitCode}` : REASON.instanceLost;
}
