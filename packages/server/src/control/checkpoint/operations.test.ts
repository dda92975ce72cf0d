import { beforeEach, describe, expect, test } from "vitest";
import { DamagedError, HostError } from "../../host/host-client.ts";
import { context, World } from "../testing/world.ts";

const FOREIGN = context("999999999999");
const NOWHERE = "checkpoint-00000000-0000-4000-8000-000000000000";
const HOOKS = {
  hooks: {
    port: 9000,
    microvmHooks: { run: "ENABLED", resume: "ENABLED" },
    microvmImageHooks: { ready: "ENABLED" },
  },
} as const;

let world: World;
let image: string;
let id: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo");
  id = await world.running(image);
});

const ours = () => world.control.extensions.checkpoints;
const remember = (memory: string, of = id): void => {
  const instance = world.machine.instances.get(of);
  if (instance) instance.memory = memory;
};
const memory = (of = id): string | undefined => world.machine.instances.get(of)?.memory;
const suspend = async (of = id): Promise<void> => {
  await world.operations.SuspendMicrovm({ microvmIdentifier: of }, context());
  await world.settled();
};
const terminate = async (of = id): Promise<void> => {
  await world.operations.TerminateMicrovm({ microvmIdentifier: of }, context());
  await world.settled();
};
const checkpoint = async (name: string | null = null, of = id): Promise<string> =>
  (await ours().create(context(), of, name)).checkpointId;
const forkIds = async (from: string, options: Parameters<ReturnType<typeof ours>["forkCheckpoint"]>[2] = {}) => {
  const { items } = await (from.startsWith("checkpoint-")
    ? ours().forkCheckpoint(context(), from, options)
    : ours().forkMicrovm(context(), from, options));
  return items.map(({ microvmId }) => microvmId);
};

describe("a checkpoint", () => {
  test("of the restore point before the newest is what the microvm was then", async () => {
    await suspend();
    remember("now");
    await expect(ours().create(context(), id, null, { previous: true })).rejects.toMatchObject({
      kind: "conflict",
      message: expect.stringContaining("no earlier restore point"),
    });
    const [failed] = (await ours().list(context(), id, {})).items;
    expect(failed).toMatchObject({ state: "FAILED", stateReason: expect.stringContaining("no earlier restore point") });
    world.machine.instances.get(id)!.earlier = { memory: "then" };
    const { checkpointId } = await ours().create(context(), id, null, { previous: true });
    await ours().rollback(context(), id, checkpointId);
    expect(memory()).toBe("then");
  });

  test("that cannot be made of a damaged microvm, rolled back to or forked, says which file is the reason", async () => {
    const damage = new DamagedError("restore point", { file: "devices", what: "is missing" }, "the restore point of T");
    const to = await checkpoint();
    for (const [operation, call] of [
      ["checkpoint", () => ours().create(context(), id, null)],
      ["rollback", () => ours().rollback(context(), id, to)],
    ] as const) {
      world.machine.failNext(operation, damage);
      await expect(call()).rejects.toMatchObject({
        kind: "conflict",
        message: expect.stringContaining("devices of the restore point of T is missing"),
      });
    }
    world.machine.failNext("launch", damage);
    const { items } = await ours().forkCheckpoint(context(), to, { count: 1 });
    expect(items[0]?.stateReason).toContain("devices of the restore point of T is missing");
  });

  test("of a running microvm is AVAILABLE at the answer, and the microvm runs on", async () => {
    const made = await ours().create(context(), id, "before-upgrade");
    expect(made).toEqual({
      checkpointId: expect.stringMatching(/^checkpoint-[0-9a-f-]{36}$/),
      microvmId: id,
      name: "before-upgrade",
      state: "AVAILABLE",
      stateReason: null,
      imageArn: image,
      imageVersion: "1.0",
      parentCheckpointId: null,
      memoryBytes: 600,
      diskBytes: 100,
      restorePoint: null,
      createdAt: new Date(world.clock.now()).toISOString(),
    });
    expect(await ours().get(context(), made.checkpointId)).toEqual(made);
    expect(await world.state(id)).toBe("RUNNING");
    const receipts = await world.control.extensions.receipts(context(), id);
    expect(receipts.map(({ operation }) => operation)).toEqual(["launch", "checkpoint"]);
  });

  test("of a suspended microvm does not wake it", async () => {
    await suspend();
    await checkpoint();
    expect([await world.state(id), world.machine.checkpoints.size]).toEqual(["SUSPENDED", 1]);
  });

  test("waits for a suspend in progress", async () => {
    const held = world.hold("suspend:stopped");
    await world.operations.SuspendMicrovm({ microvmIdentifier: id }, context());
    await held.reached;
    const made = ours().create(context(), id, null);
    held.release();
    expect((await made).state).toBe("AVAILABLE");
    expect(world.machine.violations).toEqual([]);
  });

  test("that takes long is answered while it is CREATING", async () => {
    const held = world.hold("checkpoint:made");
    const made = ours().create(context(), id, null);
    await held.reached;
    await world.clock.advance(10_000);
    const { checkpointId, state } = await made;
    expect(state).toBe("CREATING");
    await expect(ours().delete(context(), checkpointId)).rejects.toThrow("still CREATING");
    await expect(ours().forkCheckpoint(context(), checkpointId, {})).rejects.toMatchObject({
      kind: "conflict",
      message: `The checkpoint ${checkpointId} is CREATING and cannot be used. Try again when it is AVAILABLE.`,
    });
    held.release();
    await world.settled();
    expect((await ours().get(context(), checkpointId)).state).toBe("AVAILABLE");
  });

  test.each([
    ["no_space", "unavailable", /no room for a checkpoint/, /no disk space/],
    ["internal", "internal", /checkpoint of/, /error on its host/],
  ] as const)("that the host cannot make (%s) says so and stays as FAILED", async (reason, kind, message, why) => {
    world.machine.failNext("checkpoint", new HostError(reason, "no"));
    await expect(ours().create(context(), id, null)).rejects.toMatchObject({
      kind,
      message: expect.stringMatching(message),
    });
    const { items } = await ours().list(context(), id, {});
    expect(items).toMatchObject([{ state: "FAILED", stateReason: expect.stringMatching(why) }]);
    expect([await world.state(id), world.machine.checkpoints.size]).toEqual(["RUNNING", 0]);
    const failed = items[0]?.checkpointId ?? "";
    await expect(ours().rollback(context(), id, failed)).rejects.toThrow("is FAILED and cannot be used");
    await ours().delete(context(), failed);
    expect((await ours().list(context(), id, {})).items).toEqual([]);
  });

  test("is broken off by a terminate, and nothing of it is left", async () => {
    const held = world.hold("checkpoint:made");
    const made = ours().create(context(), id, null);
    made.catch(() => {});
    await held.reached;
    await terminate();
    await expect(made).rejects.toThrow("was interrupted");
    held.release();
    await world.settled();
    expect(await world.state(id)).toBe("TERMINATED");
    expect(world.machine.checkpoints.size).toBe(0);
  });

  test("is refused of a microvm that has ended or has not begun", async () => {
    const held = world.hold("launch:half");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    await held.reached;
    await expect(ours().create(context(), microvmId, null)).rejects.toMatchObject({
      kind: "conflict",
      message: `The MicroVM ${microvmId} is PENDING and cannot be checkpointed before it is RUNNING.`,
    });
    held.release();
    await terminate();
    await expect(ours().create(context(), id, null)).rejects.toMatchObject({ kind: "invalid_input" });
  });

  test("outlives its microvm", async () => {
    remember("x");
    const kept = await checkpoint();
    await terminate();
    expect((await ours().list(context(), id, {})).items).toHaveLength(1);
    const [fork = ""] = await forkIds(kept);
    expect([await world.state(fork), memory(fork)]).toEqual(["RUNNING", "x"]);
  });
});

test("what is another account's, internal or nowhere is not found by any operation", async () => {
  const mine = await checkpoint();
  const held = world.hold("launch:half");
  const forking = ours().forkMicrovm(context(), id, {});
  await held.reached;
  const internal = [...world.machine.checkpoints.keys()].find((each) => each !== mine) ?? "";
  for (const [who, which] of [
    [FOREIGN, mine],
    [context(), internal],
    [context(), NOWHERE],
  ] as const)
    for (const call of [
      () => ours().get(who, which),
      () => ours().delete(who, which),
      () => ours().forkCheckpoint(who, which, {}),
    ])
      await expect(call()).rejects.toMatchObject({ kind: "not_found", message: `Checkpoint not found: ${which}` });
  for (const which of [internal, NOWHERE])
    await expect(ours().rollback(context(), id, which)).rejects.toMatchObject({ kind: "not_found" });
  for (const call of [
    () => ours().create(FOREIGN, id, null),
    () => ours().list(FOREIGN, id, {}),
    () => ours().forkMicrovm(FOREIGN, id, {}),
    () => ours().rollback(FOREIGN, id, mine),
    () => ours().lineage(FOREIGN, id),
  ])
    await expect(call()).rejects.toMatchObject({ kind: "not_found", message: `MicroVM not found: ${id}` });
  expect(await ours().list(FOREIGN, undefined, {})).toEqual({ items: [], nextToken: null });
  held.release();
  await forking;
});

test("checkpoints are listed newest first, page by page, of one microvm or of all", async () => {
  const other = await world.running(image);
  const made: string[] = [];
  for (const of of [id, other, id]) {
    made.unshift(await checkpoint(null, of));
    await world.clock.advance(10);
  }
  const first = await ours().list(context(), undefined, { maxResults: 2 });
  expect(first.items.map(({ checkpointId }) => checkpointId)).toEqual(made.slice(0, 2));
  const nextToken = first.nextToken ?? undefined;
  const second = await ours().list(context(), undefined, { maxResults: 2, nextToken });
  expect(second).toMatchObject({ items: [{ checkpointId: made[2] }], nextToken: null });
  expect((await ours().list(context(), other, {})).items).toMatchObject([{ checkpointId: made[1] }]);
  await expect(ours().list(context(), id, { nextToken })).rejects.toMatchObject({ kind: "invalid_input" });
});

describe("the deletion of a checkpoint", () => {
  test("leaves its forks alone", async () => {
    remember("x");
    const from = await checkpoint();
    const [fork = ""] = await forkIds(from);
    await ours().delete(context(), from);
    expect([await world.state(fork), memory(fork), world.machine.checkpoints.size]).toEqual(["RUNNING", "x", 0]);
    await expect(ours().get(context(), from)).rejects.toMatchObject({ kind: "not_found" });
    expect(await ours().lineage(context(), fork)).toMatchObject({ forkedFrom: { checkpointId: from } });
  });

  test("is refused while a rollback to it goes on, or a fork of it starts", async () => {
    const to = await checkpoint();
    for (const [point, use] of [
      ["rollback:ended", () => ours().rollback(context(), id, to)],
      ["launch:half", () => ours().forkCheckpoint(context(), to, {})],
    ] as const) {
      const held = world.hold(point);
      const using = use();
      await held.reached;
      await expect(ours().delete(context(), to)).rejects.toMatchObject({
        kind: "conflict",
        message: expect.stringContaining(`The checkpoint ${to} is in use`),
      });
      held.release();
      await using;
    }
    await ours().delete(context(), to);
    expect(world.machine.violations).toEqual([]);
  });

  test("that is faster than what wants to use the checkpoint is told to it, and changes nothing", async () => {
    const uses = [
      ["store.microvms.update:before", (from: string) => ours().rollback(context(), id, from)],
      ["store.transaction:before", (from: string) => ours().forkCheckpoint(context(), from, {})],
    ] as const;
    for (const [point, use] of uses) {
      const from = await checkpoint();
      const held = world.hold(point);
      const using = use(from);
      using.catch(() => {});
      await held.reached;
      await ours().delete(context(), from);
      held.release();
      await expect(using).rejects.toMatchObject({
        kind: "conflict",
        message: `The checkpoint ${from} is being deleted. Use another one.`,
      });
    }
    const { items } = await world.operations.ListMicrovms({}, context());
    expect(items).toMatchObject([{ microvmId: id, state: "RUNNING" }]);
    expect(world.machine.violations).toEqual([]);
  });

  test("that the host cannot do is done later, and nobody can use the checkpoint meanwhile", async () => {
    const from = await checkpoint();
    world.machine.failNext("deleteCheckpoint", new HostError("internal", "busy"));
    await ours().delete(context(), from);
    expect((await ours().get(context(), from)).state).toBe("DELETING");
    await expect(forkIds(from)).rejects.toThrow("is DELETING and cannot be used");
    await world.clock.advance(5000);
    await world.settled();
    await expect(ours().get(context(), from)).rejects.toMatchObject({ kind: "not_found" });
    expect(world.machine.checkpoints.size).toBe(0);
  });
});

describe("the reconciler", () => {
  test("removes a checkpoint of which there is no row, and says of one that was lost", async () => {
    const kept = await checkpoint();
    world.machine.checkpoints.delete(kept);
    world.machine.checkpoints.set("checkpoint-stray", { microvmId: id, templateId: "template", memory: undefined });
    await world.clock.advance(5000);
    await world.settled();
    expect([...world.machine.checkpoints.keys()]).toEqual([]);
    expect(await ours().get(context(), kept)).toMatchObject({
      state: "FAILED",
      stateReason: "The checkpoint is no longer on its host.",
    });
  });

  test("leaves the checkpoint of forks alone that are not written yet", async () => {
    const held = world.hold("store.transaction:before");
    const forking = forkIds(id);
    await held.reached;
    await world.clock.advance(5000);
    held.release();
    expect(await world.state((await forking)[0] ?? "")).toBe("RUNNING");
  });

  test("leaves alone what is being made while it looks", async () => {
    const looking = world.hold("checkpoints");
    await world.clock.advance(5000);
    await looking.reached;
    const made = await checkpoint();
    looking.release();
    await world.settled();
    expect((await ours().get(context(), made)).state).toBe("AVAILABLE");
    expect(world.machine.checkpoints.size).toBe(1);
  });
});

describe("a fork", () => {
  test("of a checkpoint continues from it under its own id, as often as is asked", async () => {
    remember("then");
    const from = await checkpoint();
    remember("now");
    const forks = await ours().forkCheckpoint(context(), from, { count: 3 });
    expect(forks).toMatchObject({ microvmId: id, checkpointId: from });
    expect(forks.items.map(({ state }) => state)).toEqual(["RUNNING", "RUNNING", "RUNNING"]);
    const ids = forks.items.map(({ microvmId }) => microvmId);
    expect(new Set([id, ...ids]).size).toBe(4);
    expect(ids.map((each) => memory(each))).toEqual(["then", "then", "then"]);
    expect(new Set(forks.items.map(({ endpoint }) => endpoint)).size).toBe(3);
    expect(await ours().lineage(context(), ids[0] ?? "")).toEqual({
      microvmId: ids[0],
      forkedFrom: { microvmId: id, checkpointId: from },
      rolledBackTo: null,
    });
  });

  test("of a microvm, running or suspended, leaves no checkpoint behind", async () => {
    for (const state of ["RUNNING", "SUSPENDED"]) {
      remember(state);
      if (state === "SUSPENDED") await suspend();
      const ids = await forkIds(id, { count: 2 });
      await world.settled();
      expect([await world.state(id), ...ids.map((each) => memory(each))]).toEqual([state, state, state]);
    }
    expect(world.machine.checkpoints.size).toBe(0);
    expect((await ours().list(context(), id, {})).items).toEqual([]);
  });

  test("is an ordinary microvm, also for checkpoints and forks of its own", async () => {
    remember("x");
    const [fork = ""] = await forkIds(id);
    await suspend(fork);
    await world.operations.ResumeMicrovm({ microvmIdentifier: fork }, context());
    const { parentCheckpointId, checkpointId } = await ours().create(context(), fork, null);
    expect(parentCheckpointId).toBe((await ours().lineage(context(), fork)).forkedFrom?.checkpointId);
    const [grandchild = ""] = await forkIds(checkpointId);
    expect([await world.state(grandchild), memory(grandchild)]).toEqual(["RUNNING", "x"]);
    const { items } = await world.operations.ListMicrovms({}, context());
    expect(items).toHaveLength(3);
    await terminate(fork);
    expect(await world.state(grandchild)).toBe("RUNNING");
  });

  test("has the origin's values, or those that it is given", async () => {
    const idlePolicy = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true };
    const role = "arn:aws:iam::000000000000:role/run";
    const origin = await world.running(image, {
      idlePolicy,
      executionRoleArn: role,
      maximumDurationInSeconds: 3600,
      logging: { cloudWatch: { logGroup: "group" } },
    });
    await world.clock.advance(1000);
    const view = async (of: string) => await world.operations.GetMicrovm({ microvmIdentifier: of }, context());
    const [like = ""] = await forkIds(origin);
    const { microvmId: _id, endpoint: _endpoint, startedAt: _at, ...same } = await view(origin);
    expect(await view(like)).toMatchObject({ ...same, startedAt: new Date(world.clock.now()) });
    const longer = { ...idlePolicy, maxIdleDurationSeconds: 90 };
    const [other = ""] = await forkIds(origin, {
      idlePolicy: longer,
      maximumDurationInSeconds: 60,
      executionRoleArn: `${role}-2`,
      logging: { disabled: {} },
    });
    expect(await view(other)).toMatchObject({
      idlePolicy: longer,
      maximumDurationInSeconds: 60,
      executionRoleArn: `${role}-2`,
    });
    expect((await world.store.microvms.find(other))?.spec.logging).toEqual({ disabled: {} });
    await world.clock.advance(61_000);
    await world.settled();
    expect([await world.state(other), await world.state(origin)]).toEqual(["TERMINATED", "SUSPENDED"]);
  });

  test("has its run hook called with its own id and payload, which nobody can read afterwards", async () => {
    const origin = await world.running(await world.image("hooked", HOOKS), { runHookPayload: "origin's secret" });
    const [fork = ""] = await forkIds(origin, { runHookPayload: "fork's secret" });
    expect(world.machine.launches.at(-1)).toMatchObject({ microvmId: fork, runHook: { payload: "fork's secret" } });
    expect(world.machine.hooks).toContain(`run ${fork}`);
    await forkIds(origin);
    expect(world.machine.launches.at(-1)?.runHook?.payload).toBeNull();
    expect(JSON.stringify(await world.store.microvms.find(fork))).not.toContain("secret");
  });

  test("is refused with what no microvm can have", async () => {
    const idle = { maxIdleDurationSeconds: 28_801, suspendedDurationSeconds: 0, autoResumeEnabled: true };
    await expect(forkIds(id, { idlePolicy: idle })).rejects.toThrow("must not exceed 28800, got 28801");
    await expect(forkIds(id, { runHookPayload: "x" })).rejects.toThrow("run hook must be enabled");
    expect(world.machine.calls.some((call) => call.startsWith("checkpoint"))).toBe(false);
  });

  test("that fails has its reason, and the others run", async () => {
    const from = await checkpoint();
    world.machine.failNext("launch", new HostError("corrupt", "checksum"));
    const { items } = await ours().forkCheckpoint(context(), from, { count: 3 });
    expect(items.map(({ state }) => state).sort()).toEqual(["RUNNING", "RUNNING", "TERMINATED"]);
    expect(items.find(({ state }) => state === "TERMINATED")?.stateReason).toBe(
      "The MicroVM could not be started: the checkpoint that it was forked from cannot be used on its host.",
    );
  });

  test("of which there is not room for all is not begun at all", async () => {
    const small = await World.create({ maxMicrovms: 4 });
    const origin = await small.running(await small.image("demo"));
    const { checkpoints } = small.control.extensions;
    await expect(checkpoints.forkMicrovm(context(), origin, { count: 4 })).rejects.toMatchObject({
      kind: "capacity",
      message: expect.stringContaining("room for 3 more of the 4"),
    });
    expect(small.machine.calls).toEqual([`launch ${origin}`]);
    expect((await checkpoints.forkMicrovm(context(), origin, { count: 3 })).items).toHaveLength(3);
    await expect(checkpoints.forkMicrovm(context(), origin, {})).rejects.toMatchObject({ kind: "capacity" });
    await small.settled();
    expect([small.machine.instances.size, small.machine.checkpoints.size]).toEqual([4, 0]);
  });

  test("of a microvm that cannot be checkpointed leaves nothing", async () => {
    world.machine.failNext("checkpoint", new HostError("no_space", "full"));
    await expect(forkIds(id)).rejects.toMatchObject({ kind: "unavailable" });
    await world.settled();
    expect((await world.operations.ListMicrovms({}, context())).items).toHaveLength(1);
    expect(await world.store.checkpoints.states()).toEqual(new Map());
  });

  test("under a client token is made once, whatever became of it and of its origin", async () => {
    const request = { count: 2, clientToken: "t" };
    const from = await checkpoint();
    const answers = await Promise.all([1, 2, 3].map(() => ours().forkCheckpoint(context(), from, request)));
    expect(answers[1]).toEqual(answers[0]);
    const [first = "", second = ""] = answers[0]?.items.map(({ microvmId }) => microvmId) ?? [];
    await ours().delete(context(), from);
    await terminate(first);
    await world.restart();
    expect((await ours().forkCheckpoint(context(), from, request)).items).toMatchObject([
      { microvmId: first, state: "TERMINATED", stateReason: "Success." },
      { microvmId: second, state: "RUNNING" },
    ]);
    for (const other of [
      ours().forkCheckpoint(context(), from, { ...request, count: 3 }),
      ours().forkMicrovm(context(), id, request),
    ])
      await expect(other).rejects.toMatchObject({ kind: "conflict" });
    expect(world.machine.launches).toHaveLength(3);
  });
});

describe("a rollback", () => {
  test("of a running microvm undoes what it did since, and it runs on with its id, endpoint and deadline", async () => {
    remember("then");
    const to = await checkpoint();
    remember("now");
    const before = await world.store.microvms.find(id);
    expect(await ours().rollback(context(), id, to)).toEqual({ microvmId: id, checkpointId: to, state: "RUNNING" });
    expect(memory()).toBe("then");
    const after = await world.store.microvms.find(id);
    expect([after?.label, after?.deadline, after?.rolledBackTo]).toEqual([before?.label, before?.deadline, to]);
    const receipts = await world.control.extensions.receipts(context(), id);
    expect(receipts.map(({ operation }) => operation)).toEqual(["launch", "checkpoint", "rollback", "resume"]);
    expect((await ours().create(context(), id, null)).parentCheckpointId).toBe(to);
  });

  test("of a suspended microvm leaves it asleep, and can be repeated", async () => {
    remember("then");
    const to = await checkpoint();
    remember("now");
    await suspend();
    for (let i = 0; i < 2; i++) expect(await ours().rollback(context(), id, to)).toMatchObject({ state: "SUSPENDED" });
    expect([await world.state(id), memory()]).toEqual(["SUSPENDED", "then"]);
    await world.operations.ResumeMicrovm({ microvmIdentifier: id }, context());
    expect([await world.state(id), memory()]).toEqual(["RUNNING", "then"]);
  });

  test("goes to checkpoints of the microvm itself only", async () => {
    const [fork = ""] = await forkIds(id);
    const its = await checkpoint(null, fork);
    await expect(ours().rollback(context(), id, its)).rejects.toMatchObject({
      kind: "invalid_input",
      message: `The checkpoint ${its} is of the MicroVM ${fork}, not of ${id}. Roll back to one of its own, or fork that checkpoint.`,
    });
    await terminate(fork);
    await expect(ours().rollback(context(), fork, its)).rejects.toMatchObject({ kind: "invalid_input" });
  });

  test("calls the resume hook, and ends the microvm when that fails", async () => {
    const hooked = await world.running(await world.image("hooked", HOOKS));
    const to = await checkpoint(null, hooked);
    await ours().rollback(context(), hooked, to);
    expect(world.machine.hooks).toEqual([`run ${hooked}`, `resume ${hooked}`]);
    world.machine.failHook("resume", { kind: "timeout" });
    await ours().rollback(context(), hooked, to);
    await world.settled();
    expect([await world.state(hooked), await world.reason(hooked)]).toEqual([
      "TERMINATED",
      expect.stringContaining("Resume lifecycle hook timed out"),
    ]);
  });

  test("has traffic wait for its end, and cuts what was open", async () => {
    const to = await checkpoint();
    const never = new AbortController().signal;
    const open = await world.control.gate.enter(id, never);
    const held = world.hold("rollback:ended");
    const rolling = ours().rollback(context(), id, to);
    await held.reached;
    expect([open.closing.aborted, await world.state(id)]).toEqual([true, "SUSPENDED"]);
    const waiting = world.control.gate.enter(id, never);
    held.release();
    expect((await waiting).closing.aborted).toBe(false);
    expect((await rolling).state).toBe("RUNNING");
    expect(world.machine.calls.filter((call) => call.startsWith("resume"))).toHaveLength(1);
  });

  test("of a suspended microvm has traffic wait and wake it where its policy says so", async () => {
    const idlePolicy = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true };
    const waking = await world.running(image, { idlePolicy });
    for (const [vm, wakes] of [
      [waking, true],
      [id, false],
    ] as const) {
      const to = await checkpoint(null, vm);
      await suspend(vm);
      const held = world.hold("rollback:begin");
      const rolling = ours().rollback(context(), vm, to);
      await held.reached;
      const entering = world.control.gate.enter(vm, new AbortController().signal);
      entering.catch(() => {});
      if (!wakes) await expect(entering).rejects.toMatchObject({ reason: "suspended" });
      held.release();
      await rolling;
      if (wakes) await entering;
      expect(await world.state(vm)).toBe(wakes ? "RUNNING" : "SUSPENDED");
    }
  });

  test.each([
    ["not_found", "conflict", /is as it was: the checkpoint .* is not on its host/],
    ["corrupt", "conflict", /is as it was: the checkpoint .* is corrupt here/],
    ["incompatible", "conflict", /is incompatible here/],
    ["no_space", "unavailable", /no room to roll/],
    ["internal", "internal", /rollback of/],
  ] as const)("that the host refuses (%s) is told, and the microvm is what it was", async (reason, kind, message) => {
    const to = await checkpoint();
    remember("now");
    for (const state of ["RUNNING", "SUSPENDED"]) {
      if (state === "SUSPENDED") await suspend();
      world.machine.failNext("rollback", new HostError(reason, "no"));
      await expect(ours().rollback(context(), id, to)).rejects.toMatchObject({
        kind,
        message: expect.stringMatching(message),
      });
      await world.clock.advance(5000); // what only the host's disk can tell, the reconciler asks it
      await world.settled();
      expect([await world.state(id), memory()]).toEqual([state, "now"]);
    }
    expect(world.machine.violations).toEqual([]);
    await ours().rollback(context(), id, to);
    expect(memory()).toBeUndefined();
  });

  test("whose resume the host refuses leaves the microvm suspended at the checkpoint", async () => {
    remember("then");
    const to = await checkpoint();
    remember("now");
    world.machine.failNext("resume", new HostError("capacity", "full"));
    await expect(ours().rollback(context(), id, to)).rejects.toMatchObject({
      kind: "unavailable",
      message: expect.stringContaining("still suspended"),
    });
    expect([await world.state(id), memory()]).toEqual(["SUSPENDED", "then"]);
  });

  test("does not keep a terminate waiting", async () => {
    const to = await checkpoint();
    const held = world.hold("rollback:ended");
    const rolling = ours().rollback(context(), id, to);
    rolling.catch(() => {});
    await held.reached;
    await terminate();
    await expect(rolling).rejects.toMatchObject({
      kind: "unavailable",
      message: expect.stringContaining("interrupted"),
    });
    expect([await world.state(id), world.machine.instances.size]).toEqual(["TERMINATED", 0]);
    held.release();
    await ours().delete(context(), to);
  });

  test("keeps the microvm's place on a full host", async () => {
    const small = await World.create({ maxMicrovms: 1 });
    const demo = await small.image("demo");
    const only = await small.running(demo);
    const { checkpoints } = small.control.extensions;
    const { checkpointId } = await checkpoints.create(context(), only, null);
    const held = small.hold("rollback:ended");
    const rolling = checkpoints.rollback(context(), only, checkpointId);
    await held.reached;
    await expect(small.operations.RunMicrovm({ imageIdentifier: demo }, context())).rejects.toMatchObject({
      kind: "capacity",
    });
    held.release();
    expect((await rolling).state).toBe("RUNNING");
  });
});
