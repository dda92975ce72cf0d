import { beforeEach, describe, expect, test } from "vitest";
import { TorporError } from "../../lib/errors.ts";
import { StaleWriteError } from "../../store/errors.ts";
import { coreOf } from "../../store/microvm.ts";
import { context, World } from "../testing/world.ts";

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
    expect(await world.control.gate.find(endpoint.split(".")[0] ?? "")).toBe(id);
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
