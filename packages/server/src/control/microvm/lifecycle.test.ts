import { beforeEach, expect, test } from "vitest";
import { type HookFailure, HostError } from "../../host/host-client.ts";
import { context, World } from "../testing/world.ts";

let world: World;
let hooked: string;
beforeEach(async () => {
  world = await World.create();
  hooked = await world.image("hooked", {
    hooks: {
      port: 9000,
      microvmHooks: { run: "ENABLED", resume: "ENABLED", suspend: "ENABLED", terminate: "ENABLED" },
      microvmImageHooks: { ready: "ENABLED" },
    },
  });
});

const at = (microvmIdentifier: string) => ({ microvmIdentifier });
const advice = "Please check your hook endpoint and application logs for more details.";

test.each<[HookFailure, string]>([
  [{ kind: "status", status: 404 }, "returned HTTP status 404"],
  [{ kind: "refused" }, "connection was refused"],
  [{ kind: "timeout" }, "timed out"],
  [{ kind: "failed" }, "failed"],
])("a hook that fails (%o) ends the microvm with a reason that says so", async (failure, text) => {
  world.machine.failHook("run", failure);
  const first = await world.running(hooked);
  expect([await world.state(first), await world.reason(first)]).toEqual([
    "TERMINATED",
    `Run lifecycle hook ${text}. ${advice}`,
  ]);

  const second = await world.running(hooked);
  world.machine.failHook("suspend", failure);
  await world.operations.SuspendMicrovm(at(second), context());
  await world.settled();
  expect([await world.state(second), await world.reason(second)]).toEqual([
    "TERMINATED",
    `Suspend lifecycle hook ${text}. ${advice}`,
  ]);

  const third = await world.running(hooked);
  await world.operations.SuspendMicrovm(at(third), context());
  await world.settled();
  world.machine.failHook("resume", failure);
  // The request was fulfilled as far as it went; the state tells the rest.
  await world.operations.ResumeMicrovm(at(third), context());
  await world.settled();
  expect([await world.state(third), await world.reason(third)]).toEqual([
    "TERMINATED",
    `Resume lifecycle hook ${text}. ${advice}`,
  ]);
  expect(world.machine.instances.size).toBe(0);
});

test("hooks are called where the life cycle says, the terminate hook not for a sleeping microvm", async () => {
  const id = await world.running(hooked);
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  await world.operations.ResumeMicrovm(at(id), context());
  await world.operations.TerminateMicrovm(at(id), context());
  await world.settled();
  const sleeping = await world.running(hooked);
  await world.operations.SuspendMicrovm(at(sleeping), context());
  await world.settled();
  await world.operations.TerminateMicrovm(at(sleeping), context());
  await world.settled();
  expect(world.machine.hooks).toEqual([
    `run ${id}`,
    `suspend ${id}`,
    `resume ${id}`,
    `terminate ${id}`,
    `run ${sleeping}`,
    `suspend ${sleeping}`,
  ]);
});

test("a snapshot that cannot be made leaves the microvm RUNNING, with the reason until it changes again", async () => {
  const id = await world.running(hooked);
  world.machine.failNext("suspend", new HostError("no_space", "disk full"));
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  expect(await world.state(id)).toBe("RUNNING");
  expect(await world.reason(id)).toContain("no disk space");
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  expect([await world.state(id), await world.reason(id)]).toEqual(["SUSPENDED", null]);
});

test.each([
  [new HostError("capacity", "no slot"), "has no room"],
  [new Error("a bug"), "internal error on its host"],
])("a launch that the host cannot do ends in TERMINATED with a reason: %s", async (error, text) => {
  world.machine.failNext("launch", error);
  const id = await world.running(hooked);
  expect(await world.state(id)).toBe("TERMINATED");
  expect(await world.reason(id)).toContain(text);
});

test.each([0, 124])("a workload that exits with %i ends its microvm, without its terminate hook", async (exitCode) => {
  const id = await world.running(hooked);
  world.host.exit(id, { kind: "workload", exitCode });
  await world.settled();
  expect([await world.state(id), await world.reason(id)]).toEqual([
    "TERMINATED",
    `Container Stopped with Exit Code: ${exitCode}`,
  ]);
  expect(world.machine.hooks).toEqual([`run ${id}`]);
  expect(world.machine.instances.size).toBe(0);
});

test("a virtual machine that dies ends its microvm, and the detail stays with the operator", async () => {
  const id = await world.running(hooked);
  world.host.exit(id, { kind: "vmm", detail: "/secret/path: killed by signal 9" });
  await world.settled();
  expect(await world.reason(id)).toBe("The MicroVM's virtual machine ended unexpectedly.");
});

test.each(["launch:made", "suspend:stopped"])(
  "a workload that exits during %s is named as the reason",
  async (point) => {
    const held = world.hold(point);
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: hooked }, context());
    if (point === "suspend:stopped") {
      await world.settled();
      await world.operations.SuspendMicrovm(at(microvmId), context());
    }
    await held.reached;
    world.host.exit(microvmId, { kind: "workload", exitCode: 3 });
    held.release();
    await world.settled();
    expect(await world.reason(microvmId)).toBe("Container Stopped with Exit Code: 3");
  },
);

test.each([
  ["suspend:stopped", "SuspendMicrovm"],
  ["resume:begin", "ResumeMicrovm"],
] as const)("terminate does not wait for what is held at %s", async (point, operation) => {
  const id = await world.running(hooked);
  if (operation === "ResumeMicrovm") {
    await world.operations.SuspendMicrovm(at(id), context());
    await world.settled();
  }
  const held = world.hold(point);
  const other = world.operations[operation](at(id), context());
  await held.reached;
  await world.operations.TerminateMicrovm(at(id), context());
  await world.settled();
  await other;
  expect([await world.state(id), await world.reason(id)]).toEqual(["TERMINATED", "Success."]);
  expect(world.machine.instances.size).toBe(0);
  expect(world.machine.violations).toEqual([]);
  held.release();
});

test("an instance that the host cannot remove is tried again until it is gone", async () => {
  const id = await world.running(hooked);
  world.machine.failNext("terminate", new HostError("internal", "busy"));
  world.machine.failNext("terminate", new HostError("internal", "busy"));
  await world.operations.TerminateMicrovm(at(id), context());
  await world.settled();
  expect(await world.state(id)).toBe("TERMINATING");
  await world.clock.advance(10_000);
  await world.settled();
  expect([await world.state(id), world.machine.instances.size]).toEqual(["TERMINATED", 0]);
});

test("each operation leaves its receipt", async () => {
  const id = await world.running(hooked);
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  await world.operations.ResumeMicrovm(at(id), context());
  await world.operations.TerminateMicrovm(at(id), context());
  await world.settled();
  const receipts = await world.control.extensions.receipts(context(), id);
  expect(receipts.map(({ operation }) => operation)).toEqual(["launch", "suspend", "resume", "terminate"]);
  await expect(world.control.extensions.receipts(context("999999999999"), id)).rejects.toMatchObject({
    kind: "not_found",
  });
});
