import { beforeEach, expect, test } from "vitest";
import { HostError } from "../host/host-client.ts";
import { context, World } from "./testing/world.ts";

const never = new AbortController().signal;
let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo");
});

const at = (microvmIdentifier: string) => ({ microvmIdentifier });
const idle = (suspendedDurationSeconds = 3600, autoResumeEnabled = true) => ({
  idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds, autoResumeEnabled },
});
async function pass(seconds: number): Promise<void> {
  await world.clock.advance(seconds * 1000);
  await world.settled();
}

test("a microvm without traffic is suspended after its idle duration, not before", async () => {
  const id = await world.running(image, idle());
  await pass(58);
  expect(await world.state(id)).toBe("RUNNING");
  await pass(4);
  expect(await world.state(id)).toBe("SUSPENDED");
});

test("without a policy it never is", async () => {
  const id = await world.running(image);
  await pass(7 * 3600);
  expect(await world.state(id)).toBe("RUNNING");
});

test("bytes keep it awake, an open visit without bytes does not", async () => {
  const id = await world.running(image, idle());
  const visit = await world.control.gate.enter(id, never);
  for (let i = 0; i < 20; i++) {
    await pass(30);
    visit.touch();
  }
  expect(await world.state(id)).toBe("RUNNING");
  expect(visit.closing.aborted).toBe(false);
  await pass(62);
  expect(await world.state(id)).toBe("SUSPENDED");
  expect(visit.closing.aborted).toBe(true);
});

test("a request that wakes it begins a new idle period", async () => {
  const id = await world.running(image, idle());
  await pass(100);
  await world.control.gate.enter(id, never);
  await pass(58);
  expect(await world.state(id)).toBe("RUNNING");
  await pass(4);
  expect(await world.state(id)).toBe("SUSPENDED");
});

test("asking for its state is not traffic", async () => {
  const id = await world.running(image, idle());
  for (let i = 0; i < 7; i++) {
    await pass(10);
    await world.state(id);
  }
  expect(await world.state(id)).toBe("SUSPENDED");
});

test("a suspended duration of zero ends it instead of suspending it", async () => {
  const id = await world.running(image, idle(0));
  await pass(62);
  expect([await world.state(id), await world.reason(id)]).toEqual(["TERMINATED", "MicroVM exceeded maximum lifetime."]);
  expect(world.machine.calls.some((call) => call.startsWith("suspend"))).toBe(false);
});

test("a suspended microvm ends when its suspended duration is over, counted from each suspend", async () => {
  const id = await world.running(image, idle(100));
  await pass(61);
  await pass(90);
  await world.control.gate.enter(id, never);
  await pass(61);
  await pass(95);
  expect(await world.state(id)).toBe("SUSPENDED");
  await pass(10);
  expect([await world.state(id), await world.reason(id)]).toEqual(["TERMINATED", "MicroVM exceeded maximum lifetime."]);
});

test("the maximum duration counts from the start, suspended time included, and wins over all else", async () => {
  const awake = await world.running(image, { maximumDurationInSeconds: 200 });
  const asleep = await world.running(image, { maximumDurationInSeconds: 200, ...idle() });
  await pass(198);
  expect([await world.state(awake), await world.state(asleep)]).toEqual(["RUNNING", "SUSPENDED"]);
  await pass(3);
  for (const id of [awake, asleep])
    expect([await world.state(id), await world.reason(id)]).toEqual([
      "TERMINATED",
      "MicroVM exceeded maximum lifetime.",
    ]);
});

test("the maximum duration ends also what is being launched", async () => {
  const held = world.hold("launch:half");
  const { microvmId } = await world.operations.RunMicrovm(
    { imageIdentifier: image, maximumDurationInSeconds: 5 },
    context(),
  );
  await held.reached;
  await world.clock.advance(7000);
  await world.settled();
  expect(await world.state(microvmId)).toBe("TERMINATED");
  held.release();
});

test("nothing is suspended for idleness while it is being resumed", async () => {
  const id = await world.running(image, idle());
  await pass(62);
  const held = world.hold("resume:made");
  const resumed = world.operations.ResumeMicrovm(at(id), context());
  await held.reached;
  await world.clock.advance(300_000);
  held.release();
  await resumed;
  await world.settled();
  expect(await world.state(id)).toBe("RUNNING");
});

test("a suspend that fails is tried again after another idle period, not at once", async () => {
  const id = await world.running(image, idle());
  world.machine.failNext("suspend", new HostError("no_space", "full"));
  await pass(62);
  await pass(50);
  const suspends = () => world.machine.calls.filter((call) => call.startsWith("suspend")).length;
  expect([await world.state(id), suspends()]).toEqual(["RUNNING", 1]);
  await pass(12);
  expect([await world.state(id), suspends()]).toEqual(["SUSPENDED", 2]);
});

test.each([86_400_000, -86_400_000])(
  "a wall clock set by %i ms ends nothing, and time goes on from there",
  async (by) => {
    const awake = await world.running(image, { maximumDurationInSeconds: 1000 });
    const asleep = await world.running(image, idle(900));
    await pass(70);
    world.clock.jump(by);
    await pass(500);
    const late = await world.running(image, { maximumDurationInSeconds: 1000 });
    expect([await world.state(awake), await world.state(asleep)]).toEqual(["RUNNING", "SUSPENDED"]);
    await world.restart(); // the jump is remembered
    await pass(420);
    expect([await world.state(awake), await world.state(asleep)]).toEqual(["RUNNING", "TERMINATED"]);
    await pass(20);
    expect(await world.state(awake)).toBe("TERMINATED");
    await pass(500);
    expect(await world.state(late)).toBe("RUNNING");
    await pass(100);
    expect(await world.state(late)).toBe("TERMINATED");
  },
);

test("after a restart running microvms have a fresh idle period, and deadlines are where they were", async () => {
  const id = await world.running(image, { ...idle(), maximumDurationInSeconds: 150 });
  await pass(50);
  await world.crash();
  await pass(50);
  expect(await world.state(id)).toBe("RUNNING");
  await pass(12);
  expect(await world.state(id)).toBe("SUSPENDED");
  await pass(40);
  expect(await world.state(id)).toBe("TERMINATED");
});

test("the store knows within seconds when a microvm was last used", async () => {
  const id = await world.running(image, idle());
  const visit = await world.control.gate.enter(id, never);
  await pass(20);
  visit.touch();
  const used = world.clock.now();
  await pass(12);
  expect((await world.store.microvms.find(id))?.lastActivityAt).toEqual(new Date(used));
});

test("one microvm that is slow to end does not keep the policies of the others waiting", async () => {
  const slow = await world.running(image, { maximumDurationInSeconds: 10 });
  const other = await world.running(image, idle());
  const held = world.hold("suspend:begin"); // a place where this host does not look at the signal
  await world.operations.SuspendMicrovm(at(slow), context());
  await held.reached;
  await world.clock.advance(62_000);
  expect(world.machine.calls.filter((call) => call === `suspend ${other}`)).toHaveLength(1);
  held.release();
  await world.settled();
  expect([await world.state(slow), await world.state(other)]).toEqual(["TERMINATED", "SUSPENDED"]);
});
