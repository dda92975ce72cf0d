/** Checkpoints, forks and rollbacks as /torpor/v1 shows them: JSON, times as ISO 8601 in UTC, null for what is not. */
import type { OperationInput, OperationOutput } from "./operations.ts";
import type { RestorePointState } from "./usage.ts";

export type CheckpointState = "CREATING" | "AVAILABLE" | "FAILED" | "DELETING";

/** A restore point of a microvm: forks are made from it, and the microvm can be rolled back to it. */
export interface Checkpoint {
  readonly checkpointId: string;
  /** Of whom it was made. It may have ended since. */
  readonly microvmId: string;
  readonly name: string | null;
  readonly state: CheckpointState;
  /** Why it is FAILED. */
  readonly stateReason: string | null;
  readonly imageArn: string;
  readonly imageVersion: string;
  /** The checkpoint that its microvm was forked from, or last rolled back to. It may be gone since. */
  readonly parentCheckpointId: string | null;
  /** Known while it is AVAILABLE. */
  readonly memoryBytes: number | null;
  readonly diskBytes: number | null;
  /** Null while there is nothing of it on a host. */
  readonly restorePoint: RestorePointState | null;
  readonly createdAt: string;
}

/** Newest first. */
export interface CheckpointPage {
  readonly items: readonly Checkpoint[];
  readonly nextToken: string | null;
}

type RunInput = OperationInput<"RunMicrovm">;

/** What RunMicrovm takes of it; the origin's values where nothing is said, but for the payload, which it has forgotten. */
export interface ForkOptions
  extends Pick<
    RunInput,
    "executionRoleArn" | "idlePolicy" | "logging" | "maximumDurationInSeconds" | "runHookPayload" | "clientToken"
  > {
  /** 1 to 100; 1 when nothing is said. All of them or none are begun. */
  readonly count?: number | null | undefined;
}

/** How each of several forks does. */
export interface Forks {
  /** Of whom they are forks. */
  readonly microvmId: string;
  /** Made for them and gone when they have started, unless they were forked from a checkpoint that is kept. */
  readonly checkpointId: string;
  readonly items: readonly ForkedMicrovm[];
}

export interface ForkedMicrovm {
  readonly microvmId: string;
  readonly state: MicrovmState;
  readonly stateReason: string | null;
  readonly endpoint: string;
  readonly startedAt: string;
}

export interface Rollback {
  readonly microvmId: string;
  readonly checkpointId: string;
  /** RUNNING if it ran, SUSPENDED if it slept or is not done yet. */
  readonly state: MicrovmState;
}

/** Where a microvm's memory and disk come from. What it names may be gone since. */
export interface Lineage {
  readonly microvmId: string;
  readonly forkedFrom: { readonly microvmId: string; readonly checkpointId: string } | null;
  readonly rolledBackTo: string | null;
}

type MicrovmState = OperationOutput<"GetMicrovm">["state"];
