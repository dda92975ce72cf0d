import { join } from "node:path";
import type { Usage } from "@torpor/protocol";
import type { Vmm } from "../driver/driver.ts";
import type { Traffic } from "../network/traffic.ts";
import { diskBytes, layersOf, memoryBytes, type Snapshot } from "../snapshot/snapshot.ts";
import { restorePointState, type Verification } from "../snapshot/verification.ts";
import { layerName } from "../supply/cell.ts";
import type { Clone } from "../supply/supply.ts";

/** What an instance has. */
export interface Holdings {
  readonly live: Clone | undefined;
  readonly standby: Vmm | undefined;
  readonly traffic: Traffic | undefined;
  readonly restorePoint: { readonly snapshot: Snapshot | undefined; readonly found: Verification | undefined } | null;
}

/** What of the host that takes. */
export async function usageOf(microvmId: string, { live, standby, traffic, restorePoint }: Holdings): Promise<Usage> {
  const vmm = live?.vmm ?? standby;
  const snapshot = restorePoint?.snapshot;
  const layers = live
    ? Array.from({ length: live.layer }, (_, i) => join(live.cell.dir.disks, layerName(i + 1)))
    : snapshot
      ? layersOf(snapshot)
      : [];
  return {
    microvmId,
    process: live ? "running" : standby ? "standby" : "none",
    pssBytes: vmm ? await vmm.pssBytes() : null,
    privateBytes: vmm ? await vmm.privateBytes() : null,
    snapshotMemoryBytes: snapshot ? memoryBytes(snapshot) : 0,
    diskBytes: await diskBytes(layers),
    networkSentBytes: vmm && traffic ? traffic.sentBytes : null,
    networkReceivedBytes: vmm && traffic ? traffic.receivedBytes : null,
    restorePoint: restorePoint && restorePointState(restorePoint.found),
  };
}
