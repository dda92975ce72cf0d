import { expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { temporaryFolder } from "../../store/testing.ts";
import { context, World } from "../testing/world.ts";
import { Retention } from "./retention.ts";

const HOUR = 3_600_000;
const never = new AbortController().signal;

/** That of the server which runs now. */
function retention({ store, host, clock }: World, endedRetentionHours: number): Retention {
  return new Retention({ config: { endedRetentionHours }, store, host, clock, log: createLog("silent") });
}
async function ended(world: World, image: string, clientToken: string): Promise<string> {
  await world.clock.advance(1);
  const id = await world.running(image, { clientToken });
  await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
  await world.settled();
  return id;
}
async function listed(world: World): Promise<string[]> {
  const { items } = await world.operations.ListMicrovms({}, context());
  return items.map(({ microvmId }) => microvmId);
}

test("a microvm that has ended is listed for as long as is configured, and then goes with all that is kept of it", async () => {
  const world = await World.create();
  const image = await world.image("demo");
  const first = await ended(world, image, "first");
  world.clock.jump(HOUR);
  const second = await ended(world, image, "second");
  world.clock.jump(HOUR);
  await retention(world, 3).sweep(never);
  expect(await listed(world)).toEqual([second, first]);
  await retention(world, 2).sweep(never);
  expect(await listed(world)).toEqual([second]);
  expect(world.machine.forgotten).toEqual([first]);
  expect(await world.store.receipts.of(first)).toEqual([]);
  expect(await world.store.receipts.of(second)).not.toEqual([]);
  await expect(world.operations.GetMicrovm({ microvmIdentifier: first }, context())).rejects.toMatchObject({
    kind: "not_found",
  });
  // The token that made it starts another one; that of one which is listed does not.
  expect(await world.running(image, { clientToken: "first" })).not.toBe(first);
  expect(await world.running(image, { clientToken: "second" })).toBe(second);
  expect(world.machine.violations).toEqual([]);
});

test("the server sweeps when it starts and every hour", async () => {
  const world = await World.create({ endedRetentionHours: 1 });
  const image = await world.image("demo");
  await ended(world, image, "first");
  world.clock.jump(HOUR + 1);
  await world.restart();
  await world.quiet();
  expect(await listed(world)).toEqual([]);
  await ended(world, image, "second");
  await world.clock.advance(HOUR);
  await world.quiet();
  await world.clock.advance(HOUR);
  await world.quiet();
  expect(await listed(world)).toEqual([]);
});

test("one that has checkpoints stays until they have gone", async () => {
  const world = await World.create();
  const image = await world.image("demo");
  const id = await world.running(image);
  const { checkpointId } = await world.control.extensions.checkpoints.create(context(), id, null);
  await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
  await world.settled();
  world.clock.jump(2 * HOUR);
  await retention(world, 1).sweep(never);
  expect(await listed(world)).toEqual([id]);
  await world.control.extensions.checkpoints.delete(context(), checkpointId);
  await world.quiet();
  await retention(world, 1).sweep(never);
  expect(await listed(world)).toEqual([]);
});

test("whenever the server dies, the next one forgets what is left, and nothing else", async () => {
  for (let boundaries = 0, finished = false; !finished; boundaries++) {
    await World.within(await temporaryFolder(), async (world) => {
      const image = await world.image("demo");
      for (const token of ["a", "b"]) await ended(world, image, token);
      const runs = await world.running(image);
      world.clock.jump(2 * HOUR);
      world.crashAfter(boundaries);
      await Promise.race([retention(world, 1).sweep(never), world.crashed]);
      finished = !world.dead;
      world.crashAfter(undefined);
      if (world.dead) {
        await world.crash();
        await retention(world, 1).sweep(never);
      }
      expect(await listed(world)).toEqual([runs]);
      expect(await world.state(runs)).toBe("RUNNING");
      expect(world.machine.violations).toEqual([]);
    });
    expect(boundaries).toBeLessThan(50);
  }
});
