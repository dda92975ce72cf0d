import { beforeEach, describe, expect, test } from "vitest";
import { TorporError } from "../../lib/errors.ts";
import { createLog } from "../../lib/log.ts";
import { StaleWriteError } from "../../store/errors.ts";
import { coreOf } from "../../store/microvm.ts";
import { someMicrovm, temporaryStore } from "../../store/testing.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import { ACCOUNT, context, World } from "../testing/world.ts";
import { Fleet } from "./fleet.ts";

let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo");
});

const at = (microvmIdentifier: string) => ({ microvmIdentifier });
const gone = new TorporError("unavailable", "The database cannot be used: the disk is full.");

describe("while the database cannot be written", () => {
  test("what was done on the host is written as soon as it can be", async () => {
    const held = world.hold("launch:made");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    await held.reached;
    world.storeFailure = gone;
    held.release();
    await world.clock.advance(3000);
    world.storeFailure = undefined;
    expect(await world.state(microvmId)).toBe("PENDING");
    await world.clock.advance(1000);
    await world.settled();
    expect(await world.state(microvmId)).toBe("RUNNING");
    expect(world.machine.launches).toHaveLength(1);
  });

  test("requests are refused as unavailable and have changed nothing", async () => {
    const id = await world.running(image);
    world.storeFailure = gone;
    for (const call of [
      world.operations.SuspendMicrovm(at(id), context()),
      world.operations.TerminateMicrovm(at(id), context()),
      world.operations.RunMicrovm({ imageIdentifier: image }, context()),
    ])
      await expect(call).rejects.toMatchObject({ kind: "unavailable" });
    world.storeFailure = undefined;
    await world.settled();
    expect([await world.state(id), world.machine.instances.size]).toEqual(["RUNNING", 1]);
    await world.operations.TerminateMicrovm(at(id), context());
    await world.settled();
    expect(await world.state(id)).toBe("TERMINATED");
  });

  test("running microvms serve on", async () => {
    const id = await world.running(image);
    const { endpoint } = await world.operations.GetMicrovm(at(id), context());
    world.storeFailure = gone;
    expect(await world.control.gate.find(id)).toMatchObject({ label: endpoint.split(".")[0] });
    const visit = await world.control.gate.enter(id, new AbortController().signal);
    expect(visit.closing.aborted).toBe(false);
    await world.clock.advance(20_000); // the policies and the reconciler come and go
    expect(visit.closing.aborted).toBe(false);
    world.storeFailure = undefined;
  });
});

test("a writer whose picture is stale loses, loudly, and goes on from what is true", async () => {
  const id = await world.running(image);
  const row = await world.store.microvms.find(id);
  if (!row) throw new Error("no row");
  await world.store.microvms.update({ next: { ...coreOf(row), state: "RUNNING", reason: "changed elsewhere" } });
  await expect(world.operations.SuspendMicrovm(at(id), context())).rejects.toThrow(StaleWriteError);
  expect(world.machine.calls.some((call) => call.startsWith("suspend"))).toBe(false);
  expect(await world.reason(id)).toBe("changed elsewhere");
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  expect(await world.state(id)).toBe("SUSPENDED");
});

test("a microvm takes its room once, also between being written and giving its reservation back", async () => {
  const fleet = new Fleet({
    store: await temporaryStore(),
    clock: new FakeClock(),
    log: createLog("silent"),
    shutdown: new AbortController().signal,
    maxMicrovms: 2,
    quotas: { limit: (_, name) => (name === "allocated-memory-mib" ? 4096 : 2) },
  });
  const one = someMicrovm({ state: "PENDING", runHookPayload: null });
  const two = someMicrovm({ state: "PENDING", runHookPayload: null });
  const both = { memoryMib: 4096, running: 2 };
  await fleet.takeRoom([one], async () => {
    await fleet.add([one], async () => {});
    expect(fleet.use(ACCOUNT)).toEqual({ memoryMib: 2048, running: 1 });
    await fleet.takeRoom([two], async () => {
      expect(fleet.use(ACCOUNT)).toEqual(both);
      await fleet.add([two], async () => {});
      expect(fleet.use(ACCOUNT)).toEqual(both);
    });
  });
  expect(fleet.use(ACCOUNT)).toEqual(both);
  const third = someMicrovm({ state: "PENDING", runHookPayload: null });
  await expect(fleet.takeRoom([third], async () => {})).rejects.toMatchObject({ kind: "quota" });
});
