import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BASE_IMAGE, context, imageArn, World } from "./testing/world.ts";

/** More than any scenario has. */
const MOST_BOUNDARIES = 60;

const at = (microvmIdentifier: string) => ({ microvmIdentifier });
const never = new AbortController().signal;
const running = (world: World, image: string): Promise<string> =>
  world.running(image, {
    idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true },
  });
const suspended = async (world: World, image: string): Promise<string> => {
  const id = await running(world, image);
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  return id;
};

interface Scenario {
  readonly given: (world: World, image: string) => Promise<string>;
  readonly act: (world: World, id: string) => Promise<unknown>;
  /** States that may be found when the server died before it answered, and after. */
  readonly unanswered: readonly string[];
  readonly answered: readonly string[];
}
const SCENARIOS: Record<string, Scenario> = {
  "a suspend": {
    given: running,
    act: (world, id) => world.operations.SuspendMicrovm(at(id), context()),
    unanswered: ["RUNNING", "SUSPENDED"],
    answered: ["RUNNING", "SUSPENDED"], // accepted is all that the answer says
  },
  "a resume": {
    given: suspended,
    act: (world, id) => world.operations.ResumeMicrovm(at(id), context()),
    unanswered: ["RUNNING", "SUSPENDED"],
    answered: ["RUNNING"],
  },
  "a request that wakes a microvm": {
    given: suspended,
    act: (world, id) => world.control.gate.enter(id, never),
    unanswered: ["RUNNING", "SUSPENDED"],
    answered: ["RUNNING"],
  },
  "the end of a running microvm": {
    given: running,
    act: (world, id) => world.operations.TerminateMicrovm(at(id), context()),
    unanswered: ["RUNNING", "TERMINATED"],
    answered: ["TERMINATED"],
  },
  "the end of a suspended microvm": {
    given: suspended,
    act: (world, id) => world.operations.TerminateMicrovm(at(id), context()),
    unanswered: ["SUSPENDED", "TERMINATED"],
    answered: ["TERMINATED"],
  },
};

/** A microvm that remembers `now`, and a checkpoint of when it remembered `then`. */
async function checkpointed(world: World, asleep = false): Promise<{ id: string; checkpointId: string }> {
  const id = await running(world, await world.image("demo"));
  remember(world, id, "then");
  const { checkpointId } = await world.control.extensions.checkpoints.create(context(), id, null);
  remember(world, id, "now");
  if (asleep) {
    await world.operations.SuspendMicrovm(at(id), context());
    await world.settled();
  }
  return { id, checkpointId };
}
function remember(world: World, id: string, memory: string): void {
  const instance = world.machine.instances.get(id);
  if (instance) instance.memory = memory;
}

/** Has the server die at the first, second, … place where it waits, each in a world of its own, until it does not. */
async function atEveryBoundary(strike: (world: World, boundary: number) => Promise<void>): Promise<void> {
  for (let boundary = 0; boundary < MOST_BOUNDARIES; boundary++) {
    let died = false;
    await World.within(await mkdtemp(join(tmpdir(), "torpor-crash-")), async (world) => {
      await strike(world, boundary);
      died = world.crashes > 0;
    });
    if (died) continue;
    expect(boundary).toBeGreaterThan(5);
    return;
  }
  throw new Error(`more than ${MOST_BOUNDARIES} boundaries`);
}

/** Acts with a crash ahead; answers what came of it, with a new server settled in place of a dead one. */
async function actAndCrash(world: World, boundary: number, act: () => Promise<unknown>): Promise<"answered" | "cut"> {
  world.crashAfter(boundary);
  const outcome = await Promise.race([act().then(() => "answered" as const), world.crashed.then(() => "cut" as const)]);
  await world.settled();
  if (world.dead) await world.crash();
  world.crashAfter(undefined);
  await world.settled();
  return outcome;
}

test.each(Object.entries(SCENARIOS))("kill -9 during %s loses nothing, wherever it strikes", async (_, scenario) => {
  await atEveryBoundary(async (world, boundary) => {
    const id = await scenario.given(world, await world.image("demo"));
    const boot = world.machine.instances.get(id)?.boot;
    const outcome = await actAndCrash(world, boundary, () => scenario.act(world, id));
    const state = await world.state(id);
    expect(scenario[outcome === "answered" ? "answered" : "unanswered"]).toContain(state);
    const instance = world.machine.instances.get(id);
    expect([state, instance?.state, instance?.boot]).toEqual(
      state === "TERMINATED" ? [state, undefined, undefined] : [state, state.toLowerCase(), boot],
    );
    expect(world.machine.violations).toEqual([]);
  });
});

describe("kill -9 during a launch", () => {
  test.each([
    [false, ["RUNNING"]],
    [true, ["RUNNING", "TERMINATED"]],
  ])("with a run hook (%s) makes one microvm of one token, wherever it strikes", async (hook, may) => {
    await atEveryBoundary(async (world, boundary) => {
      const image = await world.image("demo", {
        hooks: {
          port: 9000,
          microvmHooks: { run: hook ? "ENABLED" : "DISABLED" },
          microvmImageHooks: { ready: "ENABLED" },
        },
      });
      const request = { imageIdentifier: image, clientToken: "t", ...(hook && { runHookPayload: "p" }) };
      await actAndCrash(world, boundary, () => world.operations.RunMicrovm(request, context()));
      const { microvmId } = await world.operations.RunMicrovm(request, context());
      await world.settled();
      const state = await world.state(microvmId);
      expect(may).toContain(state);
      const { items } = await world.operations.ListMicrovms({}, context());
      expect(items.map((item) => item.microvmId)).toEqual([microvmId]);
      expect([...world.machine.instances.keys()]).toEqual(state === "RUNNING" ? [microvmId] : []);
      for (const { runHook } of world.machine.launches) expect(runHook?.payload).toBe(hook ? "p" : undefined);
      expect(world.machine.violations).toEqual([]);
    });
  });
});

test("kill -9 during a checkpoint leaves the microvm alone, and a checkpoint that is whole or says that it failed", async () => {
  await atEveryBoundary(async (world, boundary) => {
    const id = await running(world, await world.image("demo"));
    const outcome = await actAndCrash(world, boundary, () =>
      world.control.extensions.checkpoints.create(context(), id, null),
    );
    const { items } = await world.control.extensions.checkpoints.list(context(), id, {});
    const states = items.map(({ state }) => state);
    expect(outcome === "answered" ? [["AVAILABLE"]] : [[], ["AVAILABLE"], ["FAILED"]]).toContainEqual(states);
    const available = items.filter(({ state }) => state === "AVAILABLE").map(({ checkpointId }) => checkpointId);
    expect([...world.machine.checkpoints.keys()]).toEqual(available);
    expect([await world.state(id), world.machine.instances.get(id)?.state]).toEqual(["RUNNING", "running"]);
    expect(world.machine.violations).toEqual([]);
  });
});

test("kill -9 during the deletion of a checkpoint leaves it whole or removes all of it", async () => {
  await atEveryBoundary(async (world, boundary) => {
    const { checkpointId } = await checkpointed(world);
    const outcome = await actAndCrash(world, boundary, () =>
      world.control.extensions.checkpoints.delete(context(), checkpointId),
    );
    const rows = await world.store.checkpoints.states();
    expect([...world.machine.checkpoints.keys()]).toEqual([...rows.keys()]);
    if (outcome === "answered") expect(rows.size).toBe(0);
    else if (rows.size > 0) expect(rows.get(checkpointId)?.state).toBe("AVAILABLE");
  });
});

describe("kill -9 during a fork", () => {
  test.each(["a checkpoint", "a microvm"])("of %s makes all of them once or none, wherever it strikes", async (of) => {
    await atEveryBoundary(async (world, boundary) => {
      const { id, checkpointId } = await checkpointed(world);
      const options = { count: 2, clientToken: "t" };
      const fork = () =>
        of === "a checkpoint"
          ? world.control.extensions.checkpoints.forkCheckpoint(context(), checkpointId, options)
          : world.control.extensions.checkpoints.forkMicrovm(context(), id, options);
      await actAndCrash(world, boundary, fork);
      const { items: found } = await world.operations.ListMicrovms({}, context());
      expect([1, 3]).toContain(found.length);
      const { items } = await fork();
      await world.settled();
      const ids = items.map(({ microvmId }) => microvmId);
      const { items: rows } = await world.operations.ListMicrovms({}, context());
      expect(rows.map(({ microvmId }) => microvmId).sort()).toEqual([id, ...ids].sort());
      expect([...world.machine.instances.keys()].sort()).toEqual([id, ...ids].sort());
      for (const each of ids)
        expect([await world.state(each), world.machine.instances.get(each)?.memory]).toEqual([
          "RUNNING",
          of === "a checkpoint" ? "then" : "now",
        ]);
      await world.clock.advance(6000); // a look of the reconciler
      await world.settled();
      expect([...world.machine.checkpoints.keys()]).toEqual([checkpointId]);
      expect([...(await world.store.checkpoints.states()).keys()]).toEqual([checkpointId]);
      expect(world.machine.violations).toEqual([]);
    });
  });
});

describe("kill -9 during a rollback", () => {
  test.each([
    ["running", "RUNNING"],
    ["suspended", "SUSPENDED"],
  ])("of a %s microvm leaves it as it was or rolled back, wherever it strikes", async (was, state) => {
    await atEveryBoundary(async (world, boundary) => {
      const { id, checkpointId } = await checkpointed(world, was === "suspended");
      const boot = world.machine.instances.get(id)?.boot;
      const outcome = await actAndCrash(world, boundary, () =>
        world.control.extensions.checkpoints.rollback(context(), id, checkpointId),
      );
      const instance = world.machine.instances.get(id);
      expect([await world.state(id), instance?.state, instance?.boot]).toEqual([state, was, boot]);
      const { rolledBackTo } = await world.control.extensions.checkpoints.lineage(context(), id);
      expect(instance?.memory).toBe(rolledBackTo === null ? "now" : "then");
      if (outcome === "answered") expect(rolledBackTo).toBe(checkpointId);
      await world.control.extensions.checkpoints.delete(context(), checkpointId); // nothing holds it any more
      expect(world.machine.violations).toEqual([]);
    });
  });
});

test("kill -9 during a build never leaves an ACTIVE version without its template, nor a template without one", async () => {
  await atEveryBoundary(async (world, boundary) => {
    const request = { name: "demo", ...CONFIGURATION, clientToken: "t" };
    await actAndCrash(world, boundary, () => world.operations.CreateMicrovmImage(request, context()));
    const { state } = await world.operations.CreateMicrovmImage(request, context());
    expect(state).toBe("CREATING");
    await world.settled();
    expect(await found(world)).toEqual({ state: "CREATED", active: "1.0", failed: null, versions: ["1.0 SUCCESSFUL"] });
    expect(world.machine.templates.size).toBe(1);
  });
});

test("kill -9 during an update makes one version of one token, wherever it strikes", async () => {
  await atEveryBoundary(async (world, boundary) => {
    const imageIdentifier = await world.image("demo");
    const request = { imageIdentifier, ...CONFIGURATION, clientToken: "t" };
    await actAndCrash(world, boundary, () => world.operations.UpdateMicrovmImage(request, context()));
    expect((await world.operations.UpdateMicrovmImage(request, context())).imageVersion).toBe("2.0");
    await world.settled();
    expect(await found(world)).toEqual({
      state: "UPDATED",
      active: "2.0",
      failed: null,
      versions: ["2.0 SUCCESSFUL", "1.0 SUCCESSFUL"],
    });
    expect(world.machine.templates.size).toBe(2);
  });
});

test("kill -9 while a version is switched off leaves it on, or off with nothing kept ready", async () => {
  await atEveryBoundary(async (world, boundary) => {
    const imageIdentifier = await world.image("demo");
    const outcome = await actAndCrash(world, boundary, () =>
      world.operations.UpdateMicrovmImageVersion(
        { imageIdentifier, imageVersion: "1.0", status: "INACTIVE" },
        context(),
      ),
    );
    await world.clock.advance(6000); // a look of the reconciler
    await world.quiet();
    const { active, versions } = await found(world);
    expect(versions).toEqual(["1.0 SUCCESSFUL"]);
    if (outcome === "answered") expect(active).toBeNull();
    expect([...world.host.retired]).toEqual(active === null ? [...world.machine.templates] : []);
  });
});

describe("kill -9 during a deletion", () => {
  test("of an image leaves it whole or removes all of it", async () => {
    await atEveryBoundary(async (world, boundary) => {
      const imageIdentifier = await world.image("demo", { clientToken: "t" });
      const outcome = await actAndCrash(world, boundary, () =>
        world.operations.DeleteMicrovmImage({ imageIdentifier }, context()),
      );
      await world.quiet();
      const left = await found(world);
      if (outcome === "answered") expect(left.state).toBeNull();
      expect([
        { state: "CREATED", active: "1.0", failed: null, versions: ["1.0 SUCCESSFUL"] },
        { state: null, active: null, failed: null, versions: [] },
      ]).toContainEqual(left);
      expect([world.machine.templates.size, (await world.store.templates.needs()).size]).toEqual(
        left.state === null ? [0, 0] : [1, 1],
      );
      await world.image("demo", { clientToken: "t" }); // what is gone is made anew, what is there is answered again
      expect((await found(world)).state).toBe("CREATED");
      expect(world.machine.violations).toEqual([]);
    });
  });

  test("of a version leaves it whole or removes all of it, and the image settled", async () => {
    await atEveryBoundary(async (world, boundary) => {
      const imageIdentifier = await world.image("demo");
      await world.operations.UpdateMicrovmImage({ imageIdentifier, ...CONFIGURATION }, context());
      await world.settled();
      const outcome = await actAndCrash(world, boundary, () =>
        world.operations.DeleteMicrovmImageVersion({ imageIdentifier, imageVersion: "2.0" }, context()),
      );
      await world.quiet();
      const { state, active, versions } = await found(world);
      expect(state).toBe("UPDATED");
      if (outcome === "answered") expect(active).toBe("1.0");
      expect(versions).toEqual(active === "1.0" ? ["1.0 SUCCESSFUL"] : ["2.0 SUCCESSFUL", "1.0 SUCCESSFUL"]);
      expect(world.machine.templates.size).toBe(versions.length);
    });
  });
});

const CONFIGURATION = {
  baseImageArn: BASE_IMAGE,
  buildRoleArn: "arn:aws:iam::000000000000:role/build",
  codeArtifact: { uri: "s3://bucket/app.zip" },
};

/** What a client finds of the image `demo`; nulls when it is not there. */
async function found(world: World) {
  const imageIdentifier = imageArn("demo");
  const { items } = await world.operations.ListMicrovmImages({}, context());
  const [image] = items;
  const versions = image ? (await world.operations.ListMicrovmImageVersions({ imageIdentifier }, context())).items : [];
  return {
    state: image?.state ?? null,
    active: image?.latestActiveImageVersion ?? null,
    failed: image?.latestFailedImageVersion ?? null,
    versions: versions.map(({ imageVersion, state }) => `${imageVersion} ${state}`),
  };
}
