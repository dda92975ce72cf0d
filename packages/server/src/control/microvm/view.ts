import type { OperationOutput } from "@torpor/protocol";
import type { Microvm } from "../../store/microvm.ts";
import { formatVersion } from "../authorise.ts";
import type { Roles } from "../role/roles.ts";

/** Makes the public name of an endpoint label: `<label>.<domain>`, with a port where it is not 443. */
export type EndpointName = (label: string) => string;

/** A microvm as GetMicrovm shows it: what is unset is null, as the service writes it. */
export function microvmView(
  vm: Microvm,
  endpointName: EndpointName,
  roles: Pick<Roles, "lack">,
): OperationOutput<"GetMicrovm"> {
  const { spec } = vm;
  return {
    microvmId: vm.id,
    state: vm.state,
    endpoint: endpointName(vm.label),
    imageArn: vm.imageArn,
    imageVersion: formatVersion(vm.imageVersion),
    executionRoleArn: spec.executionRoleArn,
    idlePolicy: spec.idlePolicy,
    maximumDurationInSeconds: spec.maximumDurationSeconds,
    startedAt: vm.startedAt,
    terminatedAt: vm.state === "TERMINATED" ? vm.terminatedAt : null,
    stateReason: ("reason" in vm ? vm.reason : null) ?? roles.lack(spec.executionRoleArn) ?? null,
    ingressNetworkConnectors: spec.ingressConnectors,
    egressNetworkConnectors: spec.egressConnectors,
  };
}

export function microvmItem(vm: Microvm): OperationOutput<"ListMicrovms">["items"][number] {
  return {
    microvmId: vm.id,
    state: vm.state,
    imageArn: vm.imageArn,
    imageVersion: formatVersion(vm.imageVersion),
    startedAt: vm.startedAt,
  };
}
