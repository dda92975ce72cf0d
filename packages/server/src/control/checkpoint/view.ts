import type * as wire from "@torpor/protocol";
import type { Checkpoint } from "../../store/checkpoint.ts";
import type { Microvm } from "../../store/microvm.ts";
import { formatVersion } from "../authorise.ts";
import type { EndpointName } from "../microvm/view.ts";

export function checkpointView(checkpoint: Checkpoint, found: wire.RestorePointState | undefined): wire.Checkpoint {
  const available = checkpoint.state === "AVAILABLE" ? checkpoint : undefined;
  return {
    checkpointId: checkpoint.id,
    microvmId: checkpoint.microvmId,
    name: checkpoint.name,
    state: checkpoint.state,
    stateReason: checkpoint.state === "FAILED" ? checkpoint.reason : null,
    imageArn: checkpoint.imageArn,
    imageVersion: formatVersion(checkpoint.imageVersion),
    parentCheckpointId: checkpoint.parentCheckpointId,
    memoryBytes: available?.memoryBytes ?? null,
    diskBytes: available?.diskBytes ?? null,
    restorePoint: (available && found) ?? null,
    createdAt: checkpoint.createdAt.toISOString(),
  };
}

export function forkView(vm: Microvm, endpointName: EndpointName): wire.ForkedMicrovm {
  return {
    microvmId: vm.id,
    state: vm.state,
    stateReason: "reason" in vm ? vm.reason : null,
    endpoint: endpointName(vm.label),
    startedAt: vm.startedAt.toISOString(),
  };
}

export const lineageView = (vm: Microvm): wire.Lineage => ({
  microvmId: vm.id,
  forkedFrom: vm.fork,
  rolledBackTo: vm.rolledBackTo,
});
