import { beforeEach, describe, expect, test } from "vitest";
import { HostError } from "../host/host-client.ts";
import type { IdlePolicy, MicrovmState } from "../store/microvm.ts";
import { someCheckpoint, someMicrovm } from "../store/testing.ts";
import type { FakeInstance } from "./testing/fake-host.ts";
import { context, World } from "./testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await World.create();
});

type Found = FakeInstance["state"] | "nothing";
const SUSPENDED: MicrovmState = { state: "SUSPENDED", resuming: false, rollbackTo: null, expiresAt: null };
const RESUMING: MicrovmState = { state: "SUSPENDED", resuming: true, rollbackTo: null, expiresAt: null };
const ROLLING_BACK: MicrovmState = { ...RESUMING, rollbackTo: "checkpoint-1" };
const ROLLING_BACK_SUSPENDED: MicrovmState = { ...SUSPENDED, rollbackTo: "checkpoint-1" };
const PENDING: MicrovmState = { state: "PENDING", runHookPayload: null };
const RUNNING: MicrovmState = { state: "RUNNING", reason: null };
const TERMINATING: MicrovmState = { state: "TERMINATING", reason: "Success.", hook: true };

const AUTO_RESUME = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true };

/** Row, what the host has, what becomes of it, and whether the instance is the same one afterwards. */
const CASES: [MicrovmState, Found, string, "same" | "new" | "none"][] = [
  [PENDING, "nothing", "RUNNING", "new"],
  [PENDING, "running", "RUNNING", "same"],
  [PENDING, "broken", "RUNNING", "new"],
  [RUNNING, "running", "RUNNING", "same"],
  [RUNNING, "nothing", "TERMINATED", "none"],
  [RUNNING, "broken", "TERMINATED", "none"],
  [RUNNING, "suspended", "TERMINATED", "none"],
  [{ state: "SUSPENDING" }, "running", "RUNNING", "same"],
  [{ state: "SUSPENDING" }, "suspended", "SUSPENDED", "same"],
  [{ state: "SUSPENDING" }, "broken", "TERMINATED", "none"],
  [{ state: "SUSPENDING" }, "nothing", "TERMINATED", "none"],
  [SUSPENDED, "suspended", "SUSPENDED", "same"],
  [SUSPENDED, "running", "RUNNING", "same"],
  [SUSPENDED, "broken", "TERMINATED", "none"],
  [SUSPENDED, "nothing", "TERMINATED", "none"],
  [RESUMING, "running", "RUNNING", "same"],
  [RESUMING, "suspended", "RUNNING", "same"],
  [RESUMING, "broken", "TERMINATED", "none"],
  [RESUMING, "nothing", "TERMINATED", "none"],
  [ROLLING_BACK, "running", "RUNNING", "same"],
  [ROLLING_BACK, "suspended", "RUNNING", "same"],
  [ROLLING_BACK, "broken", "RUNNING", "same"],
  [ROLLING_BACK, "nothing", "TERMINATED", "none"],
  [ROLLING_BACK_SUSPENDED, "running", "SUSPENDED", "same"],
  [ROLLING_BACK_SUSPENDED, "suspended", "SUSPENDED", "same"],
  [ROLLING_BACK_SUSPENDED, "broken", "SUSPENDED", "same"],
  [ROLLING_BACK_SUSPENDED, "nothing", "TERMINATED", "none"],
  [TERMINATING, "running", "TERMINATED", "none"],
  [TERMINATING, "suspended", "TERMINATED", "none"],
  [TERMINATING, "nothing", "TERMINATED", "none"],
];

async function meet(
  state: MicrovmState,
  found: Found,
  hooks = {},
  idlePolicy: IdlePolicy | null = null,
): Promise<string> {
  const vm = someMicrovm(state, { deadline: world.clock.now() + 3_600_000 });
  const { templateId } = vm;
  world.machine.templates.add(templateId);
  await world.store.microvms.insert({ ...vm, spec: { ...vm.spec, idlePolicy, hooks } });
  if (vm.state === "SUSPENDED" && vm.rollbackTo) {
    const checkpoint = { id: vm.rollbackTo, microvmId: vm.id, templateId };
    await world.store.checkpoints.insert(
      someCheckpoint({ state: "AVAILABLE", memoryBytes: 1, diskBytes: 1 }, checkpoint),
    );
    world.machine.checkpoints.set(vm.rollbackTo, { microvmId: vm.id, templateId, memory: "then" });
  }
  if (found !== "nothing") world.machine.instances.set(vm.id, { state: found, templateId, boot: "before" });
  await world.crash();
  await world.settled();
  return vm.id;
}

test.each(CASES)("a row %o and an instance that is %s end as %s (%s instance)", async (state, found, to, which) => {
  const id = await meet(state, found);
  expect(await world.state(id)).toBe(to);
  const boot = world.machine.instances.get(id)?.boot;
  expect(boot === undefined ? "none" : boot === "before" ? "same" : "new").toBe(which);
  expect(world.machine.violations).toEqual([]);
});

describe("a start that was interrupted, of an image with a run hook", () => {
  const hooks = { run: { port: 9000, timeoutMs: 1000 } };
  test("begins again when nothing of it is there", async () => {
    expect(await world.state(await meet(PENDING, "nothing", hooks))).toBe("RUNNING");
  });
  test.each(["running", "broken"] as const)("fails when it is %s: the hook's answer is lost", async (found) => {
    const id = await meet(PENDING, found, hooks);
    expect(await world.state(id)).toBe("TERMINATED");
    expect(await world.reason(id)).toContain("start was interrupted");
    expect(world.machine.instances.size).toBe(0);
  });
});

test("a rollback that the host cannot do now is tried again, and traffic waits for it", async () => {
  world.machine.failNext("rollback", new HostError("no_space", "full"));
  const id = await meet(ROLLING_BACK_SUSPENDED, "broken", {}, AUTO_RESUME);
  expect(await world.state(id)).toBe("SUSPENDED");
  const entering = world.control.gate.enter(id, new AbortController().signal);
  await world.clock.advance(5000);
  await entering;
  expect([await world.state(id), world.machine.instances.get(id)?.memory]).toEqual(["RUNNING", "then"]);
  expect(world.machine.violations).toEqual([]);
});

test("a rollback that the host will never do ends the microvm only if it was broken already", async () => {
  for (const [found, state] of [
    ["suspended", "SUSPENDED"],
    ["broken", "TERMINATED"],
  ] as const) {
    world.machine.failNext("rollback", new HostError("corrupt", "checksum"));
    expect(await world.state(await meet(ROLLING_BACK_SUSPENDED, found))).toBe(state);
    await world.control.extensions.checkpoints.delete(context(), "checkpoint-1");
  }
});

test("an instance without a row, or with that of an ended microvm, is removed", async () => {
  const ended = someMicrovm({ state: "TERMINATED", reason: "Success.", terminatedAt: new Date(0) });
  await world.store.microvms.insert(ended);
  for (const [id, state] of [
    ["microvm-unknown", "running"],
    ["microvm-unknown-too", "suspended"],
    [ended.id, "running"],
  ] as const)
    world.machine.instances.set(id, { state, templateId: "template", boot: "b" });
  await world.clock.advance(5000);
  await world.settled();
  expect(world.machine.instances.size).toBe(0);
});

test("after a host's reboot running microvms have ended with a reason and suspended ones resume", async () => {
  const image = await world.image("demo");
  const awake = await world.running(image);
  const asleep = await world.running(image);
  await world.operations.SuspendMicrovm({ microvmIdentifier: asleep }, context());
  await world.settled();
  world.machine.reboot();
  await world.crash();
  await world.settled();
  expect(await world.state(awake)).toBe("TERMINATED");
  expect(await world.reason(awake)).toContain("restart of its host");
  await world.operations.ResumeMicrovm({ microvmIdentifier: asleep }, context());
  expect(await world.state(asleep)).toBe("RUNNING");
});

test("a virtual machine whose end nobody reported is noticed within seconds", async () => {
  const image = await world.image("demo");
  const id = await world.running(image);
  world.machine.instances.delete(id);
  await world.clock.advance(5000);
  await world.settled();
  expect([await world.state(id), await world.reason(id)]).toEqual([
    "TERMINATED",
    "The MicroVM's virtual machine ended unexpectedly.",
  ]);
});

test("what changes while the host lists its instances is left alone", async () => {
  const image = await world.image("demo");
  const changing = await world.running(image);
  const held = world.hold("inventory");
  await world.clock.advance(5000);
  await held.reached;
  // The list that the reconciler waits for says `running` of neither a new microvm nor, soon, of this one.
  await world.operations.SuspendMicrovm({ microvmIdentifier: changing }, context());
  const { microvmId: fresh } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
  await world.settled();
  held.release();
  await world.settled();
  expect([await world.state(changing), await world.state(fresh)]).toEqual(["SUSPENDED", "RUNNING"]);
  expect(world.machine.violations).toEqual([]);
});

test("a long launch that is begun again does not keep the server from starting", async () => {
  const held = world.hold("launch:half");
  const id = await meetWhileHeld();
  expect(await world.state(id)).toBe("PENDING");
  held.release();
  await world.settled();
  expect(await world.state(id)).toBe("RUNNING");
});

async function meetWhileHeld(): Promise<string> {
  const vm = someMicrovm(PENDING, { deadline: world.clock.now() + 3_600_000 });
  await world.store.microvms.insert({ ...vm, spec: { ...vm.spec, hooks: {} } });
  await world.crash();
  return vm.id;
}
