import { describe, expect, test } from "vitest";
import type { CheckpointState } from "./checkpoint.ts";
import { CheckpointUnavailableError, StaleWriteError } from "./errors.ts";
import { coreOf, type Microvm } from "./microvm.ts";
import type { Position } from "./newest-first.ts";
import type { Store } from "./store.ts";
import { someCheckpoint, someMicrovm, temporaryStore } from "./testing.ts";

const AVAILABLE: CheckpointState = { state: "AVAILABLE", memoryBytes: 600, diskBytes: 100 };
const STATES: CheckpointState[] = [
  { state: "CREATING" },
  AVAILABLE,
  { state: "FAILED", reason: "no space" },
  { state: "DELETING" },
];
const RECEIPT = {
  operation: "checkpoint",
  startedAt: "2026-09-15T14:30:00.000Z",
  totalMs: 12,
  phases: [{ name: "pause", ms: 3 }],
  bytesRead: 0,
  bytesWritten: 700,
  reused: [],
};

test.each(STATES)("a checkpoint comes back as it was written: %o", async (state) => {
  const { checkpoints } = await temporaryStore();
  const checkpoint = someCheckpoint(state, { name: "before", parentCheckpointId: "checkpoint-parent" });
  await checkpoints.insert(checkpoint);
  expect(await checkpoints.find(checkpoint.id)).toEqual(checkpoint);
  expect(await checkpoints.states()).toEqual(
    new Map([[checkpoint.id, { microvmId: checkpoint.microvmId, internal: false, state: state.state }]]),
  );
  expect(await checkpoints.find("checkpoint-x")).toBeUndefined();
});

test("a checkpoint is settled once, and what it cost is a receipt of its microvm", async () => {
  const { checkpoints, receipts } = await temporaryStore();
  const made = someCheckpoint({ state: "CREATING" });
  const failed = someCheckpoint({ state: "CREATING" });
  await checkpoints.insert(made);
  await checkpoints.insert(failed);
  await checkpoints.settle(made.id, { kind: "made", memoryBytes: 600, diskBytes: 100, receipt: RECEIPT });
  await checkpoints.settle(failed.id, { kind: "failed", reason: "no space" });
  expect(await checkpoints.find(made.id)).toEqual({ ...made, ...AVAILABLE });
  expect(await checkpoints.find(failed.id)).toEqual({ ...failed, state: "FAILED", reason: "no space" });
  expect([await receipts.of(made.microvmId), await receipts.of(failed.microvmId)]).toEqual([[RECEIPT], []]);
  await expect(checkpoints.settle(made.id, { kind: "failed", reason: "late" })).rejects.toThrow(StaleWriteError);
});

test("only an AVAILABLE checkpoint can be lost", async () => {
  const { checkpoints } = await temporaryStore();
  for (const state of STATES) {
    const checkpoint = someCheckpoint(state);
    await checkpoints.insert(checkpoint);
    await checkpoints.lose(checkpoint.id, "gone");
    const lost = { state: "FAILED", reason: "gone", memoryBytes: undefined, diskBytes: undefined };
    expect(await checkpoints.find(checkpoint.id)).toEqual({ ...checkpoint, ...(state === AVAILABLE && lost) });
  }
});

test("pages are newest first, of one account or microvm, and leave internal checkpoints out", async () => {
  const { checkpoints } = await temporaryStore();
  const at = (ms: number) => new Date(1_789_483_000_000 + ms);
  for (const ms of [0, 1, 1, 1, 2])
    await checkpoints.insert(someCheckpoint(AVAILABLE, { createdAt: at(ms), microvmId: `microvm-${ms}` }));
  await checkpoints.insert(someCheckpoint(AVAILABLE, { internal: true }));
  await checkpoints.insert(someCheckpoint(AVAILABLE, { accountId: "999999999999" }));
  const filter = { accountId: "000000000000" };
  const all = await checkpoints.page(filter, undefined, 50);
  expect(all.map(({ createdAt }) => createdAt)).toEqual([at(2), at(1), at(1), at(1), at(0)]);
  const seen: string[] = [];
  for (let after: Position | undefined; ; ) {
    const page = await checkpoints.page(filter, after, 2);
    seen.push(...page.map(({ id }) => id));
    const last = page.at(-1);
    if (!last) break;
    after = { time: last.createdAt.getTime(), key: last.id };
    await checkpoints.insert(someCheckpoint(AVAILABLE, { createdAt: at(100) }));
  }
  expect(seen).toEqual(all.map(({ id }) => id));
  expect(await checkpoints.page({ ...filter, microvmId: "microvm-1" }, undefined, 50)).toHaveLength(3);
});

describe("the deletion of a checkpoint", () => {
  const users: [string, (checkpointId: string) => Microvm][] = [
    ["a rollback to it is pending", (id) => someMicrovm({ state: "RUNNING", reason: null }, { rolledBackTo: id })],
    [
      "a fork of it has not started",
      (id) =>
        someMicrovm(
          { state: "PENDING", runHookPayload: null },
          { fork: { checkpointId: id, microvmId: "microvm-origin" } },
        ),
    ],
  ];
  const use = async (store: Store, vm: Microvm): Promise<Microvm> => {
    if (vm.state === "PENDING") {
      await store.transaction((write) => write.microvms.insert(vm));
      return vm;
    }
    await store.microvms.insert(vm);
    const rollbackTo = vm.rolledBackTo;
    return await store.microvms.update({
      next: { ...coreOf(vm), state: "SUSPENDED", resuming: true, rollbackTo, expiresAt: null },
    });
  };

  test.each(users)("is refused while %s, and begins afterwards", async (_, user) => {
    const store = await temporaryStore();
    const { id } = someCheckpoint(AVAILABLE);
    await store.checkpoints.insert(someCheckpoint(AVAILABLE, { id }));
    const vm = await use(store, user(id));
    expect(await store.checkpoints.beginDeletion(id)).toBe("in use");
    await store.microvms.update({ next: { ...coreOf(vm), state: "RUNNING", reason: null } });
    expect(await store.checkpoints.beginDeletion(id)).toBe("deleting");
    expect(await store.checkpoints.beginDeletion(id)).toBe("deleting");
    await store.checkpoints.remove(id);
    expect(await store.checkpoints.beginDeletion(id)).toBe("gone");
  });

  test.each(users)("once begun, keeps from being written that %s", async (_, user) => {
    const store = await temporaryStore();
    const checkpoint = someCheckpoint(AVAILABLE);
    await store.checkpoints.insert(checkpoint);
    await store.checkpoints.beginDeletion(checkpoint.id);
    const vm = user(checkpoint.id);
    await expect(use(store, vm)).rejects.toThrow(CheckpointUnavailableError);
    expect(await store.microvms.find(vm.id)).toEqual(vm.state === "PENDING" ? undefined : vm);
  });

  test("waits for what is being made", async () => {
    const { checkpoints } = await temporaryStore();
    const checkpoint = someCheckpoint({ state: "CREATING" });
    await checkpoints.insert(checkpoint);
    expect(await checkpoints.beginDeletion(checkpoint.id)).toBe("creating");
    await checkpoints.remove(checkpoint.id);
    expect(await checkpoints.find(checkpoint.id)).toEqual(checkpoint);
  });
});
