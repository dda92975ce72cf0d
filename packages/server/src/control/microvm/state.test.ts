import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Microvm, MicrovmState } from "../../store/microvm.ts";
import { someMicrovm } from "../../store/testing.ts";
import { allows, IllegalStepError, type MicrovmEvent, type Phase, phaseOf, STEPS, step } from "./state.ts";

const STATES: Record<Phase, MicrovmState> = {
  PENDING: { state: "PENDING", runHookPayload: "secret" },
  RUNNING: { state: "RUNNING", reason: "no space" },
  SUSPENDING: { state: "SUSPENDING" },
  SUSPENDED: { state: "SUSPENDED", resuming: false, rollbackTo: null, expiresAt: 5 },
  RESUMING: { state: "SUSPENDED", resuming: true, rollbackTo: null, expiresAt: 5 },
  ROLLING_BACK: { state: "SUSPENDED", resuming: true, rollbackTo: "checkpoint-1", expiresAt: 5 },
  ROLLING_BACK_SUSPENDED: { state: "SUSPENDED", resuming: false, rollbackTo: "checkpoint-1", expiresAt: 5 },
  TERMINATING: { state: "TERMINATING", reason: "because", hook: true },
  TERMINATED: { state: "TERMINATED", reason: "because", terminatedAt: new Date(1) },
};
const EVENTS: MicrovmEvent[] = [
  { kind: "launched" },
  { kind: "suspend" },
  { kind: "suspended", at: 7 },
  { kind: "suspendFailed", reason: "disk" },
  { kind: "resume" },
  { kind: "resumed" },
  { kind: "resumeFailed" },
  { kind: "rollback", checkpointId: "checkpoint-1", at: 7 },
  { kind: "rolledBack" },
  { kind: "rollbackFailed", reason: "gone" },
  { kind: "terminate", reason: "Success." },
  { kind: "fail", reason: "hook" },
  { kind: "gone", at: new Date(9) },
];
const PHASES = Object.keys(STATES) as Phase[];

describe.each(PHASES)("a microvm that is %s", (phase) => {
  const vm = someMicrovm(STATES[phase]);
  test.each(EVENTS)("meets $kind as the table says", (event) => {
    const to = STEPS[phase][event.kind];
    expect(allows(vm, event.kind)).toBe(to !== undefined);
    if (to === undefined) {
      expect(() => step(vm, event)).toThrow(IllegalStepError);
      return;
    }
    const { next, effects } = step(vm, event);
    expect(phaseOf(next)).toBe(to);
    expect(next.id).toBe(vm.id);
    expect(next.generation).toBe(vm.generation);
    // Only what its new state has is left: the payload of the run hook above all.
    expect("runHookPayload" in next).toBe(next.state === "PENDING");
    const work = {
      SUSPENDING: ["suspend"],
      RESUMING: ["resume"],
      ROLLING_BACK: ["rollback"],
      ROLLING_BACK_SUSPENDED: ["rollback"],
      TERMINATING: ["terminate"],
    } as const;
    expect(effects).toEqual(work[to as keyof typeof work] ?? []);
  });
});

test("the terminate hook is for instances that run", () => {
  const hook = (phase: Phase): boolean => {
    const { next } = step(someMicrovm(STATES[phase]), { kind: "terminate", reason: "Success." });
    return next.state === "TERMINATING" && next.hook;
  };
  expect(PHASES.filter((phase) => STEPS[phase].terminate).map((phase) => [phase, hook(phase)])).toEqual([
    ["PENDING", false],
    ["RUNNING", true],
    ["SUSPENDING", true],
    ["SUSPENDED", false],
    ["RESUMING", true],
    ["ROLLING_BACK", false],
    ["ROLLING_BACK_SUSPENDED", false],
  ]);
});

test("the suspended duration counts from the suspend, and never ends without a policy", () => {
  const vm = someMicrovm(STATES.SUSPENDING);
  expect(step(vm, { kind: "suspended", at: 7 }).next).toMatchObject({ expiresAt: 600_007 });
  const unlimited = { ...vm, spec: { ...vm.spec, idlePolicy: null } };
  expect(step(unlimited, { kind: "suspended", at: 7 }).next).toMatchObject({ expiresAt: null });
});

test("a failed resume leaves the expiry where it was", () => {
  const resuming = step(someMicrovm(STATES.SUSPENDED), { kind: "resume" }).next;
  expect(step(resuming, { kind: "resumeFailed" }).next).toMatchObject({ state: "SUSPENDED", expiresAt: 5 });
});

test("a rollback ends as it began: what ran is to run again, what slept sleeps on until its time is over", () => {
  const back = (phase: Phase) => {
    const rolling = step(someMicrovm(STATES[phase]), { kind: "rollback", checkpointId: "checkpoint-9", at: 7 }).next;
    return step(rolling, { kind: "rolledBack" }).next;
  };
  const rolledBackTo = "checkpoint-9";
  expect(back("RUNNING")).toMatchObject({ resuming: true, rollbackTo: null, expiresAt: 600_007, rolledBackTo });
  expect(back("SUSPENDED")).toMatchObject({ resuming: false, rollbackTo: null, expiresAt: 5, rolledBackTo });
});

test("a rollback that failed leaves no trace but the reason", () => {
  const failed = (phase: Phase) => step(someMicrovm(STATES[phase]), { kind: "rollbackFailed", reason: "gone" }).next;
  expect(failed("ROLLING_BACK")).toMatchObject({ state: "RUNNING", reason: "gone", rolledBackTo: null });
  expect(failed("ROLLING_BACK_SUSPENDED")).toMatchObject({ ...STATES.SUSPENDED, rolledBackTo: null });
});

test("whatever happens, the end is TERMINATED and nothing leads out of it", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...EVENTS)), (events) => {
      let vm: Microvm = someMicrovm(STATES.PENDING);
      let ended = false;
      for (const event of events) {
        if (!allows(vm, event.kind)) continue;
        expect(ended).toBe(false);
        vm = step(vm, event).next;
        ended = vm.state === "TERMINATED";
      }
      // From anywhere, two events at most lead to the end.
      if (allows(vm, "terminate")) vm = step(vm, { kind: "terminate", reason: "Success." }).next;
      if (allows(vm, "gone")) vm = step(vm, { kind: "gone", at: new Date(9) }).next;
      expect(vm.state).toBe("TERMINATED");
    }),
  );
});
