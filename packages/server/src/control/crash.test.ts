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

test("kill -9 during a build never leaves an ACTIVE version without its template, nor a template without one", async () => {
  await atEveryBoundary(async (world, boundary) => {
    const request = {
      name: "demo",
      baseImageArn: BASE_IMAGE,
      buildRoleArn: "arn:aws:iam::000000000000:role/build",
      codeArtifact: { uri: "s3://bucket/app.zip" },
      clientToken: "t",
    };
    await actAndCrash(world, boundary, () => world.operations.CreateMicrovmImage(request, context()));
    const { state } = await world.operations.CreateMicrovmImage(request, context());
    expect(state).toBe("CREATING");
    await world.settled();
    const image = await world.operations.GetMicrovmImage({ imageIdentifier: imageArn("demo") }, context());
    const version = await world.operations.GetMicrovmImageVersion(
      { imageIdentifier: imageArn("demo"), imageVersion: "1.0" },
      context(),
    );
    expect([
      ["CREATED", "SUCCESSFUL", "ACTIVE", 1],
      ["CREATE_FAILED", "FAILED", "INACTIVE", 0],
    ]).toContainEqual([image.state, version.state, version.status, world.machine.templates.size]);
  });
});
