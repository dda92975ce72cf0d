import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ForkOptions } from "@torpor/protocol";
import fc from "fast-check";
import { expect, test } from "vitest";
import { HostError } from "../host/host-client.ts";
import { turns } from "./testing/fake-clock.ts";
import { ImageModel, imageEvents, isImageEvent } from "./testing/image-model.ts";
import { context, World } from "./testing/world.ts";

/** Sequences that are tried; a longer search sets FUZZ_RUNS, a repetition FUZZ_SEED. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 60);
const SLOTS = 2;

const slot = fc.nat(SLOTS - 1);
const event = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("run" as const), slot }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("suspend" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("resume" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("request" as const), slot }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("terminate" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("checkpoint" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("rollback" as const), slot, nth: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fork" as const), slot }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fork a checkpoint" as const), slot, nth: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete a checkpoint" as const), slot, nth: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("exit" as const), slot, code: fc.nat(255) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("vanish" as const), slot }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("host fails" as const),
      operation: fc.constantFrom(
        "launch",
        "suspend",
        "resume",
        "terminate",
        "checkpoint",
        "rollback",
        "deleteCheckpoint",
        "buildTemplate",
        "deleteTemplate",
        "retireTemplate",
      ),
      reason: fc.constantFrom("no_space", "capacity", "corrupt", "internal"),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("hook fails" as const),
      hook: fc.constantFrom("run", "suspend", "resume"),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("pass" as const), seconds: fc.constantFrom(1, 30, 70, 700) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("die after" as const), boundaries: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reboot" as const) }) },
  ...imageEvents,
);
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never;
/** What happens at the same time. */
const batches = fc.array(fc.array(event, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 12 });

test("whatever happens in whatever order, the invariants hold", { timeout: 600_000 }, async () => {
  const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.info(`model of the control plane: seed ${seed}, ${RUNS} runs`);
  await fc.assert(
    fc.asyncProperty(batches, fc.nat(), async (sequence, delays) => {
      const folder = await mkdtemp(join(tmpdir(), "torpor-model-"));
      const play = async (world: World): Promise<void> => {
        const model = await Model.create(world);
        for (const batch of sequence) await model.step(batch);
      };
      await World.within(folder, play, { delay: delaysOf(delays) });
    }),
    { seed, numRuns: RUNS, interruptAfterTimeLimit: 500_000, markInterruptAsFailure: false },
  );
});

/** A repeatable sequence of delays: mostly none, some long enough for other things to be begun and ended. */
function delaysOf(seed: number): () => Promise<void> {
  let state = seed >>> 0;
  return async () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const size = (state >>> 24) % 24;
    if (size >= 20) await turns(4 * (size - 19));
    else for (let turn = size - 10; turn > 0; turn--) await Promise.resolve();
  };
}

/** What a client knows, and what the world did to the microvms. */
class Model {
  readonly #world: World;
  readonly #images: string[];
  readonly #imageModel: ImageModel;
  readonly #ids = new Map<number, string>();
  readonly #toBeTerminated = new Set<string>();
  /** Boot of each microvm that was seen alive: it must stay the same instance for life. */
  readonly #boots = new Map<string, string>();
  readonly #ended = new Set<string>();
  /** What each microvm remembered when it was last looked at, and what its checkpoints do. */
  readonly #memories = new Map<string, string>();
  readonly #checkpointed = new Map<string, Set<string | undefined>>();
  /** Requests for forks, which are made anew after each step: they get the same forks. */
  readonly #forkings: { readonly from: string; readonly options: ForkOptions }[] = [];
  readonly #forks = new Map<string, string>();
  #steps = 0;
  #crashes = 0;

  private constructor(world: World, images: string[]) {
    this.#world = world;
    this.#images = images;
    this.#imageModel = new ImageModel(world);
  }

  static async create(world: World): Promise<Model> {
    const plain = await world.image("plain");
    const hooked = await world.image("hooked", {
      hooks: {
        port: 9000,
        microvmHooks: { run: "ENABLED", resume: "ENABLED", suspend: "ENABLED", terminate: "ENABLED" },
        microvmImageHooks: { ready: "ENABLED" },
      },
    });
    const model = new Model(world, [plain, hooked]);
    await model.step(Array.from({ length: SLOTS }, (_, number) => ({ kind: "run", slot: number })));
    return model;
  }

  async step(batch: readonly Event[]): Promise<void> {
    const world = this.#world;
    // A failure is an answer too; what matters is what is found afterwards.
    const all = Promise.allSettled(batch.map((one) => this.#do(one)));
    await Promise.race([all, world.crashed]);
    await this.#settle();
    await world.clock.advance(6000); // a look of the reconciler
    await this.#settle();
    world.machine.failures.length = 0;
    world.machine.hookFailures.length = 0;
    world.crashAfter(undefined);
    await world.clock.advance(6000); // and one at which nothing goes wrong any more
    await this.#settle();
    await this.#check();
  }

  async #settle(): Promise<void> {
    await this.#world.quiet();
    while (this.#world.dead) {
      this.#crashes++;
      await this.#world.crash(this.#crashes % 3 === 0 ? this.#crashes : undefined);
      await this.#world.quiet();
    }
  }

  async #do(one: Event): Promise<void> {
    const world = this.#world;
    const { operations, machine } = { operations: world.operations, machine: world.machine };
    if (isImageEvent(one)) return await this.#imageModel.do(one, (id) => this.#toBeTerminated.add(id));
    switch (one.kind) {
      case "run": {
        const answer = await operations.RunMicrovm(this.#request(one.slot), context());
        const known = this.#ids.get(one.slot);
        if (known !== undefined && answer.microvmId !== known) machine.violations.push("I8: a second microvm");
        this.#ids.set(one.slot, answer.microvmId);
        return;
      }
      case "host fails":
        return machine.failNext(one.operation, new HostError(one.reason, "the model wants it"));
      case "hook fails":
        return machine.failHook(one.hook, { kind: "status", status: 500 });
      case "pass":
        return await world.clock.advance(one.seconds * 1000);
      case "die after":
        return world.crashAfter(one.boundaries);
      case "reboot":
        machine.reboot();
        return world.crashAfter(0);
    }
    const ours = world.control.extensions.checkpoints;
    const microvmIdentifier = this.#ids.get(one.slot);
    if (microvmIdentifier === undefined) return;
    switch (one.kind) {
      case "suspend":
        await operations.SuspendMicrovm({ microvmIdentifier }, context());
        return;
      case "resume":
        await operations.ResumeMicrovm({ microvmIdentifier }, context());
        return;
      case "terminate":
        this.#toBeTerminated.add(microvmIdentifier);
        await operations.TerminateMicrovm({ microvmIdentifier }, context());
        return;
      case "checkpoint":
        await ours.create(context(), microvmIdentifier, null);
        return;
      case "fork":
        await this.#fork(microvmIdentifier);
        return;
      case "rollback":
      case "fork a checkpoint":
      case "delete a checkpoint": {
        const { items } = await ours.list(context(), microvmIdentifier, {});
        const checkpointId = items[one.nth]?.checkpointId;
        if (checkpointId === undefined) return;
        if (one.kind === "rollback") await ours.rollback(context(), microvmIdentifier, checkpointId);
        else if (one.kind === "delete a checkpoint") await ours.delete(context(), checkpointId);
        else await this.#fork(checkpointId);
        return;
      }
      case "exit":
        return world.host.exit(microvmIdentifier, { kind: "workload", exitCode: one.code });
      case "vanish":
        if (machine.instances.get(microvmIdentifier)?.state !== "running") return;
        machine.doomed.add(microvmIdentifier);
        machine.instances.delete(microvmIdentifier);
        return;
      case "request": {
        const visit = await world.control.gate.enter(microvmIdentifier, AbortSignal.timeout(5000));
        if (this.#ended.has(microvmIdentifier)) machine.violations.push("I7: traffic to an ended microvm");
        visit.touch();
        visit.leave();
        return;
      }
      default:
        return one satisfies never;
    }
  }

  async #fork(from: string): Promise<void> {
    const number = this.#forkings.length;
    const options = { clientToken: `fork-${number}`, count: 1, maximumDurationInSeconds: 20_000 + number };
    this.#forkings.push({ from, options });
    await this.#forkAgain(number);
  }

  async #forkAgain(number: number): Promise<void> {
    const { from, options } = this.#forkings[number] ?? { from: "", options: {} };
    const ours = this.#world.control.extensions.checkpoints;
    const { items } = await (from.startsWith("checkpoint-")
      ? ours.forkCheckpoint(context(), from, options)
      : ours.forkMicrovm(context(), from, options));
    const token = `fork-${number}`;
    const fork = items[0]?.microvmId ?? "none";
    if ((this.#forks.get(token) ?? fork) !== fork) this.#world.machine.violations.push("I8: a second fork");
    this.#forks.set(token, fork);
  }

  /** What a microvm remembers is what it remembered, or what a checkpoint of its own does. */
  async #checkMemories(): Promise<void> {
    const { instances, checkpoints } = this.#world.machine;
    for (const { microvmId, memory } of checkpoints.values()) {
      const known = this.#checkpointed.get(microvmId) ?? new Set();
      this.#checkpointed.set(microvmId, known.add(memory));
    }
    this.#steps++;
    for (const [id, instance] of instances) {
      const before = this.#memories.get(id);
      if (before !== undefined && instance.memory !== before) {
        expect(this.#checkpointed.get(id)).toContain(instance.memory);
        const { rolledBackTo } = await this.#world.control.extensions.checkpoints.lineage(context(), id);
        expect(rolledBackTo).not.toBeNull();
      }
      if (instance.state === "running") instance.memory = `${id} ${this.#steps}`;
      if (instance.memory !== undefined) this.#memories.set(id, instance.memory);
    }
  }

  /** The host has what is AVAILABLE, and nothing else; nothing is half made or half gone. */
  async #checkCheckpoints(): Promise<void> {
    const rows = [...(await this.#world.store.checkpoints.states())];
    expect(rows.filter(([, { internal }]) => internal)).toEqual([]);
    expect(rows.filter(([, { state }]) => state !== "AVAILABLE" && state !== "FAILED")).toEqual([]);
    const available = rows.filter(([, { state }]) => state === "AVAILABLE").map(([id]) => id);
    expect(available.sort()).toEqual([...this.#world.machine.checkpoints.keys()].sort());
  }

  #request(slotNumber: number) {
    return {
      imageIdentifier: this.#images[slotNumber % 2] ?? "",
      clientToken: `slot-${slotNumber}`,
      maximumDurationInSeconds: 28_000 + slotNumber,
      ...(slotNumber > 0 && {
        idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true },
      }),
    };
  }

  async #check(): Promise<void> {
    const { operations, machine } = { operations: this.#world.operations, machine: this.#world.machine };
    expect(machine.violations).toEqual([]);
    // I8, and the first answer for ever.
    for (const [number, id] of this.#ids)
      expect((await operations.RunMicrovm(this.#request(number), context())).microvmId).toBe(id);
    for (const token of this.#forks.keys()) await this.#forkAgain(Number(token.slice("fork-".length)));
    await this.#checkCheckpoints();
    await this.#imageModel.check();
    await this.#checkMemories();
    const { items } = await operations.ListMicrovms({}, context());
    const rows = await Promise.all(
      items.map(({ microvmId }) => operations.GetMicrovm({ microvmIdentifier: microvmId }, context())),
    );
    const durations = rows.map((row) => row.maximumDurationInSeconds);
    expect(new Set(durations).size).toBe(rows.length); // I8: one token, one microvm
    const live = new Map(rows.filter(({ state }) => state !== "TERMINATED").map((row) => [row.microvmId, row.state]));
    // I1, I2, I4, I6: rows and instances tell the same story, and nothing is left in between.
    expect(Object.fromEntries([...machine.instances].map(([id, { state }]) => [id, state.toUpperCase()]))).toEqual(
      Object.fromEntries(live),
    );
    for (const row of rows) {
      if (this.#ended.has(row.microvmId)) expect(row.state).toBe("TERMINATED"); // I5: an end is an end
      const boot = machine.instances.get(row.microvmId)?.boot;
      if (boot !== undefined) {
        expect(this.#boots.get(row.microvmId) ?? boot).toBe(boot); // I5: never begun anew
        this.#boots.set(row.microvmId, boot);
      }
      if (row.state === "TERMINATED" && !this.#ended.has(row.microvmId)) {
        this.#ended.add(row.microvmId);
        expect(row.stateReason).toBeTruthy();
        expect(row.terminatedAt).toBeInstanceOf(Date);
        expect([row.stateReason, this.#mayEnd(row)]).toEqual([row.stateReason, true]); // I5: nothing is lost
        await expect(this.#world.control.gate.enter(row.microvmId, AbortSignal.timeout(5000))).rejects.toMatchObject({
          reason: "terminated",
        }); // I7
      }
    }
  }

  /** Somebody or something other than a crash of the server has ended it. */
  #mayEnd(row: { microvmId: string; startedAt: Date; stateReason?: string | null | undefined }): boolean {
    const { machine, clock } = this.#world;
    if (this.#toBeTerminated.has(row.microvmId) || machine.doomed.has(row.microvmId)) return true;
    const age = clock.now() - row.startedAt.getTime();
    if (row.stateReason === "MicroVM exceeded maximum lifetime.") return age >= 660_000;
    // Of a launch that the crash cut, nobody can tell whether its run hook has answered.
    return this.#crashes > 0 && !this.#boots.has(row.microvmId) && /start was interrupted/.test(row.stateReason ?? "");
  }
}
