import { coreOf, type Microvm } from "../../store/microvm.ts";

/**
 * A microvm's states as the machine has them. Some are SUSPENDED to the outside, since the service has no such states,
 * but after a crash the difference decides whether a running instance is wanted, and as of when: RESUMING; ROLLING_BACK,
 * of one that ran and is to run again; ROLLING_BACK_SUSPENDED, of one that slept and is to sleep on.
 */
export type Phase =
  | "PENDING"
  | "RUNNING"
  | "SUSPENDING"
  | "SUSPENDED"
  | "RESUMING"
  | "ROLLING_BACK"
  | "ROLLING_BACK_SUSPENDED"
  | "TERMINATING"
  | "TERMINATED";

export type MicrovmEvent =
  /** The instance runs and its run hook has answered. */
  | { readonly kind: "launched" }
  | { readonly kind: "suspend" }
  /** The snapshot is durable. `at`: steady time, from which its suspended duration counts. */
  | { readonly kind: "suspended"; readonly at: number }
  /** No snapshot could be made and the instance runs on. */
  | { readonly kind: "suspendFailed"; readonly reason: string }
  | { readonly kind: "resume" }
  | { readonly kind: "resumed" }
  /** The instance could not be restored and its snapshot is untouched. */
  | { readonly kind: "resumeFailed" }
  /** `at`: steady time, from which the suspended duration of one that ran counts until it runs again. */
  | { readonly kind: "rollback"; readonly checkpointId: string; readonly at: number }
  /** The instance is as suspended at the checkpoint. */
  | { readonly kind: "rolledBack" }
  /** The instance is as it was. */
  | { readonly kind: "rollbackFailed"; readonly reason: string }
  /** By request or because its time is over. */
  | { readonly kind: "terminate"; readonly reason: string }
  /** It cannot go on: a hook failed, the workload ended, the instance is gone. */
  | { readonly kind: "fail"; readonly reason: string }
  /** Nothing of the instance is left. */
  | { readonly kind: "gone"; readonly at: Date };
export type EventKind = MicrovmEvent["kind"];

/** What the host is to do after a step was written. */
export type Effect = "suspend" | "resume" | "rollback" | "terminate";

/** What each event leads to; a pair that is missing is illegal. */
export const STEPS: Readonly<Record<Phase, Readonly<Partial<Record<EventKind, Phase>>>>> = {
  PENDING: { launched: "RUNNING", terminate: "TERMINATING", fail: "TERMINATING" },
  RUNNING: { suspend: "SUSPENDING", rollback: "ROLLING_BACK", terminate: "TERMINATING", fail: "TERMINATING" },
  SUSPENDING: {
    suspended: "SUSPENDED",
    suspendFailed: "RUNNING",
    terminate: "TERMINATING",
    fail: "TERMINATING",
  },
  SUSPENDED: {
    resume: "RESUMING",
    rollback: "ROLLING_BACK_SUSPENDED",
    terminate: "TERMINATING",
    fail: "TERMINATING",
  },
  RESUMING: { resumed: "RUNNING", resumeFailed: "SUSPENDED", terminate: "TERMINATING", fail: "TERMINATING" },
  ROLLING_BACK: {
    rolledBack: "RESUMING",
    rollbackFailed: "RUNNING",
    terminate: "TERMINATING",
    fail: "TERMINATING",
  },
  ROLLING_BACK_SUSPENDED: {
    rolledBack: "SUSPENDED",
    rollbackFailed: "SUSPENDED",
    terminate: "TERMINATING",
    fail: "TERMINATING",
  },
  TERMINATING: { gone: "TERMINATED" },
  TERMINATED: {},
};

export class IllegalStepError extends Error {
  override readonly name = "IllegalStepError";
  constructor(id: string, phase: Phase, event: EventKind) {
    super(`microvm ${id} is ${phase}: "${event}" has no meaning there`);
  }
}

export function phaseOf(vm: Microvm): Phase {
  if (vm.state !== "SUSPENDED") return vm.state;
  if (vm.rollbackTo !== null) return vm.resuming ? "ROLLING_BACK" : "ROLLING_BACK_SUSPENDED";
  return vm.resuming ? "RESUMING" : "SUSPENDED";
}

/** True when the table has an arrow for the event. */
export function allows(vm: Microvm, event: EventKind): boolean {
  return STEPS[phaseOf(vm)][event] !== undefined;
}

/**
 * The microvm after the event, still at the generation that was read, and what is to be done once that is written.
 * @throws IllegalStepError when the table has no arrow for it.
 */
export function step(
  vm: Microvm,
  event: MicrovmEvent,
): { readonly next: Microvm; readonly effects: readonly Effect[] } {
  if (!allows(vm, event.kind)) throw new IllegalStepError(vm.id, phaseOf(vm), event.kind);
  const core = coreOf(vm);
  switch (event.kind) {
    case "launched":
    case "resumed":
      return { next: { ...core, state: "RUNNING", reason: null }, effects: [] };
    case "suspend":
      return { next: { ...core, state: "SUSPENDING" }, effects: ["suspend"] };
    case "suspended":
      return { next: { ...core, ...asleep(expiryAfter(vm, event.at)) }, effects: [] };
    case "suspendFailed":
      return { next: { ...core, state: "RUNNING", reason: event.reason }, effects: [] };
    case "resume":
      return { next: { ...core, ...asleep(expiryOf(vm)), resuming: true }, effects: ["resume"] };
    case "resumeFailed":
      return { next: { ...core, ...asleep(expiryOf(vm)) }, effects: [] };
    case "rollback": {
      const ran = vm.state === "RUNNING";
      const sleep = asleep(ran ? expiryAfter(vm, event.at) : expiryOf(vm));
      return { next: { ...core, ...sleep, resuming: ran, rollbackTo: event.checkpointId }, effects: ["rollback"] };
    }
    case "rolledBack": {
      const resuming = isToRun(vm);
      const next = { ...core, ...asleep(expiryOf(vm)), resuming, rolledBackTo: rollbackOf(vm) };
      return { next, effects: resuming ? ["resume"] : [] };
    }
    case "rollbackFailed":
      if (isToRun(vm)) return { next: { ...core, state: "RUNNING", reason: event.reason }, effects: [] };
      return { next: { ...core, ...asleep(expiryOf(vm)) }, effects: [] };
    case "terminate":
      return {
        // One that never ran or sleeps is not woken for its hook.
        next: { ...core, state: "TERMINATING", reason: event.reason, hook: runs(vm) },
        effects: ["terminate"],
      };
    case "fail":
      return { next: { ...core, state: "TERMINATING", reason: event.reason, hook: false }, effects: ["terminate"] };
    case "gone":
      return { next: { ...core, state: "TERMINATED", reason: reasonOf(vm), terminatedAt: event.at }, effects: [] };
    default:
      return event satisfies never;
  }
}

/** SUSPENDED, and nothing is being done about it. */
const asleep = (expiresAt: number | null) =>
  ({ state: "SUSPENDED", resuming: false, rollbackTo: null, expiresAt }) as const;
const isToRun = (vm: Microvm): boolean => vm.state === "SUSPENDED" && vm.resuming;
const rollbackOf = (vm: Microvm): string | null => (vm.state === "SUSPENDED" ? vm.rollbackTo : null);
const runs = (vm: Microvm): boolean => ["RUNNING", "SUSPENDING", "RESUMING"].includes(phaseOf(vm));
function expiryAfter({ spec }: Microvm, at: number): number | null {
  return spec.idlePolicy ? at + spec.idlePolicy.suspendedDurationSeconds * 1000 : null;
}
const expiryOf = (vm: Microvm): number | null => (vm.state === "SUSPENDED" ? vm.expiresAt : null);
const reasonOf = (vm: Microvm): string => (vm.state === "TERMINATING" ? vm.reason : "");
