import type { OperationInput, Receipt } from "@torpor/protocol";
import type { EgressPolicy } from "../host/host-client.ts";

/** A microvm as the control plane knows it. What can be said of it depends on its state. */
export type Microvm = MicrovmCore & MicrovmState;

export interface MicrovmCore {
  readonly id: string;
  readonly accountId: string;
  /** Name of its endpoint under the endpoint domain. Not derivable from the id. */
  readonly label: string;
  /** Incremented by each change; a writer must name the one that it read. */
  readonly generation: number;
  readonly imageArn: string;
  /** `1` is shown as `1.0`. */
  readonly imageVersion: number;
  /** The build whose template it runs from. */
  readonly templateId: string;
  readonly spec: MicrovmSpec;
  readonly startedAt: Date;
  /** When its maximum duration is over, in steady time (control/steady-time.ts). */
  readonly deadline: number;
  /** Coarse: written every few seconds and with each change. */
  readonly lastActivityAt: Date;
  /** Where it was forked from; null when it was launched from its image. */
  readonly fork: Fork | null;
  /** The checkpoint that it was last rolled back to. */
  readonly rolledBackTo: string | null;
}

/** Either may be gone since: forks live on by themselves. */
export interface Fork {
  readonly checkpointId: string;
  readonly microvmId: string;
}

/** What stays when the state changes: `{ ...coreOf(vm), state: … }` carries nothing over by accident. */
export function coreOf(vm: MicrovmCore): MicrovmCore {
  return {
    id: vm.id,
    accountId: vm.accountId,
    label: vm.label,
    generation: vm.generation,
    imageArn: vm.imageArn,
    imageVersion: vm.imageVersion,
    templateId: vm.templateId,
    spec: vm.spec,
    startedAt: vm.startedAt,
    deadline: vm.deadline,
    lastActivityAt: vm.lastActivityAt,
    fork: vm.fork,
    rolledBackTo: vm.rolledBackTo,
  };
}

export type MicrovmState =
  | {
      readonly state: "PENDING";
      /** Secret; forgotten as soon as the launch is over. */
      readonly runHookPayload: string | null;
    }
  | {
      readonly state: "RUNNING";
      /** Why the last attempt to suspend it failed. */
      readonly reason: string | null;
    }
  | { readonly state: "SUSPENDING" }
  | {
      readonly state: "SUSPENDED";
      /** A resume was begun and its end is not known yet. The API goes on saying SUSPENDED. */
      readonly resuming: boolean;
      /**
       * A rollback to this checkpoint was begun and its end is not known yet; with `resuming`, it is to run afterwards.
       */
      readonly rollbackTo: string | null;
      /** End of its suspended duration in steady time; null without an idle policy. */
      readonly expiresAt: number | null;
    }
  | {
      readonly state: "TERMINATING";
      readonly reason: string;
      /** Whether the terminate hook is to be called, if the image has it. */
      readonly hook: boolean;
    }
  | { readonly state: "TERMINATED"; readonly reason: string; readonly terminatedAt: Date };

/** What RunMicrovm fixed for life. */
export interface MicrovmSpec {
  /** The baseline; what the guest may use beyond it for a while is the host's to say. */
  readonly memoryMib: number;
  readonly maximumDurationSeconds: number;
  readonly idlePolicy: IdlePolicy | null;
  readonly executionRoleArn: string | null;
  readonly logging: Logging | null;
  readonly ingressConnectors: readonly string[];
  readonly egressConnectors: readonly string[];
  /** What these let it reach, as they were at its launch; absent: public addresses. */
  readonly egress?: EgressPolicy;
  readonly hooks: RuntimeHooks;
}

export interface IdlePolicy {
  readonly maxIdleDurationSeconds: number;
  readonly suspendedDurationSeconds: number;
  readonly autoResumeEnabled: boolean;
}

/** As the caller gave it. */
export type Logging = NonNullable<OperationInput<"RunMicrovm">["logging"]>;

/** Enabled hooks only, with their times resolved. */
export interface RuntimeHooks {
  readonly run?: Hook;
  readonly resume?: Hook;
  readonly suspend?: Hook;
  readonly terminate?: Hook;
}
export interface Hook {
  readonly port: number;
  readonly timeoutMs: number;
}

/** A change to write: the whole microvm as it is to be, and the receipt of the operation that led there. */
export interface MicrovmChange {
  /** Carries the generation that was read. */
  readonly next: Microvm;
  readonly receipt?: Receipt;
}

export interface MicrovmFilter {
  readonly accountId: string;
  readonly imageArn?: string;
  readonly imageVersion?: number;
}
