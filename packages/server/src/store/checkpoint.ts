import type { Receipt } from "@torpor/protocol";
import type { MicrovmSpec } from "./microvm.ts";

/** A restore point of a microvm that its owner keeps, or that forks of a live microvm are being made from. */
export type Checkpoint = CheckpointCore & CheckpointState;

export interface CheckpointCore {
  readonly id: string;
  readonly accountId: string;
  /** The microvm that it was made of; it may have ended since. */
  readonly microvmId: string;
  readonly name: string | null;
  /** Made by a fork of a live microvm for itself: nobody else sees it, and it goes when the forks have started. */
  readonly internal: boolean;
  readonly imageArn: string;
  readonly imageVersion: number;
  readonly templateId: string;
  /** Of the microvm: what its forks have unless they are told otherwise. */
  readonly spec: MicrovmSpec;
  /** The checkpoint that the microvm itself was forked from, or last rolled back to. It may be gone since. */
  readonly parentCheckpointId: string | null;
  readonly createdAt: Date;
}

export type CheckpointState =
  | { readonly state: "CREATING" }
  | ({ readonly state: "AVAILABLE" } & CheckpointSizes)
  /** Nothing of it is on a host. */
  | { readonly state: "FAILED"; readonly reason: string }
  | { readonly state: "DELETING" };

export interface CheckpointSizes {
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

/** How the making of a checkpoint ended. */
export type CheckpointOutcome =
  | ({ readonly kind: "made"; readonly receipt: Receipt } & CheckpointSizes)
  | { readonly kind: "failed"; readonly reason: string };

export interface CheckpointFilter {
  readonly accountId: string;
  readonly microvmId?: string;
}
