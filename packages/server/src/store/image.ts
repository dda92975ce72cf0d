import type { OperationInput, Receipt } from "@torpor/protocol";
import type { EgressPolicy } from "../host/host-client.ts";
import type { Logging } from "./microvm.ts";

export interface Image {
  readonly arn: string;
  readonly accountId: string;
  readonly name: string;
  readonly generation: number;
  readonly state: ImageState;
  /** The newest version that microvms can be launched from. */
  readonly latestActiveVersion: number | null;
  /** The newest version whose build failed. */
  readonly latestFailedVersion: number | null;
  /** The number that was given out last: none is given out twice, whatever becomes of its version. */
  readonly lastVersion: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}
export type ImageState = SettledImageState | "CREATING" | "UPDATING" | "DELETING";
/** Nothing is being done to the image. */
export type SettledImageState = "CREATED" | "CREATE_FAILED" | "UPDATED" | "UPDATE_FAILED";
export const SETTLED_IMAGE_STATES: readonly SettledImageState[] = [
  "CREATED",
  "CREATE_FAILED",
  "UPDATED",
  "UPDATE_FAILED",
];

export interface ImageVersion {
  readonly imageArn: string;
  /** `1` is shown as `1.0`. */
  readonly version: number;
  readonly state: "PENDING" | "IN_PROGRESS" | "SUCCESSFUL" | "FAILED" | "DELETING";
  /** ACTIVE is needed to launch. */
  readonly status: "ACTIVE" | "INACTIVE";
  readonly stateReason: string | null;
  readonly configuration: ImageConfiguration;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** As the caller gave it, defaults filled in: a version's configuration is complete and inherits nothing. */
export interface ImageConfiguration {
  readonly baseImageArn: string;
  readonly baseImageVersion: string;
  readonly buildRoleArn: string;
  readonly codeArtifactUri: string;
  readonly description: string | null;
  readonly logging: Logging | null;
  readonly egressConnectors: readonly string[];
  /** What these let the build reach, as they were when it was asked for; absent: public addresses. */
  readonly egress?: EgressPolicy;
  readonly architectures: readonly Architecture[] | null;
  readonly memoryMib: number;
  readonly additionalOsCapabilities: readonly "ALL"[] | null;
  readonly hooks: ImageHooks | null;
  readonly environment: Readonly<Record<string, string>> | null;
}

export type Architecture = "ARM_64" | "X86_64";
/** As the caller gave them. */
export type ImageHooks = NonNullable<OperationInput<"CreateMicrovmImage">["hooks"]>;

export interface Build {
  /** Also the name of the template that it makes. */
  readonly id: string;
  readonly imageArn: string;
  readonly version: number;
  readonly state: "PENDING" | "IN_PROGRESS" | "SUCCESSFUL" | "FAILED";
  readonly stateReason: string | null;
  readonly architecture: Architecture;
  readonly chipset: "GRAVITON" | "GENERIC";
  readonly chipsetGeneration: string;
  readonly snapshot: SnapshotSizes | null;
  readonly createdAt: Date;
}
export interface SnapshotSizes {
  readonly memoryBytes: number;
  readonly codeInstallBytes: number;
  readonly diskBytes: number;
}

/** How a build ended. */
export type BuildOutcome =
  | { readonly kind: "built"; readonly snapshot: SnapshotSizes; readonly receipt: Receipt }
  | { readonly kind: "failed"; readonly reason: string };

export interface ImageFilter {
  readonly accountId: string;
  /** Part of the name, as it is spelled. */
  readonly nameFilter?: string;
}

/** What came of a wish to change a version's status. */
export type StatusOutcome =
  | { readonly kind: "set"; readonly version: ImageVersion }
  | { readonly kind: "busy"; readonly state: ImageState }
  /** There is nothing in it to launch from. */
  | { readonly kind: "unusable"; readonly state: ImageVersion["state"] }
  | { readonly kind: "unknown" };

/** What came of a wish to delete. `deleted`: it was there once and is gone. */
export type DeletionOutcome =
  | { readonly kind: "deleting" | "deleted" | "in use" | "last version" | "unknown" }
  | { readonly kind: "busy"; readonly state: ImageState };

/** Why a template is kept: to be launched from, or because microvms and checkpoints continue from it. */
export type TemplateNeed = "launches" | "restores";
