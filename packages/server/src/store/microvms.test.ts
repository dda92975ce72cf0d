import type { Receipt } from "@torpor/protocol";
import { expect, test } from "vitest";
import { StaleWriteError } from "./errors.ts";
import { coreOf, type MicrovmState } from "./microvm.ts";
import type { Position } from "./newest-first.ts";
import { someCheckpoint, someMicrovm, temporaryStore } from "./testing.ts";

const STATES: MicrovmState[] = [
  { state: "PENDING", runHookPayload: "secret" },
  { state: "PENDING", runHookPayload: null },
  { state: "RUNNING", reason: null },
  { state: "RUNNING", reason: "no space" },
  { state: "SUSPENDING" },
  { state: "SUSPENDED", resuming: false, rollbackTo: null, expiresAt: 1_789_483_200_000 },
  { state: "SUSPENDED", resuming: true, rollbackTo: null, expiresAt: null },
  { state: "SUSPENDED", resuming: true, rollbackTo: "checkpoint-1", expiresAt: null },
  { state: "TERMINATING", reason: "Success.", hook: true },
  { state: "TERMINATED", reason: "Success.", terminatedAt: new Date(1_789_483_420_771) },
];

test.each(STATES)("a microvm comes back as it was written: %o", async (state) => {
  const { microvms } = await temporaryStore();
  const vm = someMicrovm(state);
  await microvms.insert(vm);
  expect(await microvms.find(vm.id)).toEqual(vm);
  expect(await microvms.live()).toEqual(state.state === "TERMINATED" ? [] : [vm]);
});

test("where a microvm comes from is kept through its changes", async () => {
  const { microvms } = await temporaryStore();
  const origin = { checkpointId: "checkpoint-1", microvmId: "microvm-1" };
  const vm = someMicrovm({ state: "RUNNING", reason: null }, { fork: origin, rolledBackTo: "checkpoint-2" });
  await microvms.insert(vm);
  expect(await microvms.find(vm.id)).toEqual(vm);
  await microvms.update({ next: { ...coreOf(vm), state: "SUSPENDING" } });
  expect(await microvms.find(vm.id)).toMatchObject({ fork: origin, rolledBackTo: "checkpoint-2" });
});

test("a change keeps nothing of the state before it", async () => {
  const { microvms } = await temporaryStore();
  const vm = someMicrovm({ state: "PENDING", runHookPayload: "secret" });
  await microvms.insert(vm);
  const terminating: MicrovmState = { state: "TERMINATING", reason: "Success.", hook: false };
  const written = await microvms.update({ next: { ...coreOf(vm), ...terminating } });
  expect(written).toEqual({ ...coreOf(vm), generation: vm.generation + 1, ...terminating });
  expect(await microvms.find(vm.id)).toEqual(written);
});

test("the second of two writers that read the same generation loses and changes nothing", async () => {
  const { microvms } = await temporaryStore();
  const vm = someMicrovm({ state: "RUNNING", reason: null });
  await microvms.insert(vm);
  const winner = await microvms.update({ next: { ...coreOf(vm), state: "SUSPENDING" } });
  await expect(
    microvms.update({ next: { ...coreOf(vm), state: "TERMINATING", reason: "late", hook: true }, receipt: receipt(1) }),
  ).rejects.toThrow(StaleWriteError);
  expect(await microvms.find(vm.id)).toEqual(winner);
});

test("an unknown id is undefined", async () => {
  const { microvms } = await temporaryStore();
  expect(await microvms.find("microvm-x")).toBeUndefined();
});

test("pages are newest first, filtered, and keep their place while microvms come and go", async () => {
  const { microvms } = await temporaryStore();
  const at = (ms: number) => new Date(1_789_483_000_000 + ms);
  const vms = [0, 1, 1, 1, 2, 3].map((ms) =>
    someMicrovm({ state: "RUNNING", reason: null }, { startedAt: at(ms), imageVersion: 1 + (ms % 2) }),
  );
  for (const vm of vms) await microvms.insert(vm);
  await microvms.insert(someMicrovm({ state: "RUNNING", reason: null }, { accountId: "999999999999" }));
  const filter = { accountId: "000000000000" };
  const all = await microvms.page(filter, undefined, 50);
  expect(all).toHaveLength(6);
  expect(all.map((vm) => vm.startedAt.getTime() - at(0).getTime())).toEqual([3, 2, 1, 1, 1, 0]);

  const seen: string[] = [];
  let after: Position | undefined;
  for (;;) {
    const page = await microvms.page(filter, after, 2);
    const last = page.at(-1);
    if (!last) break;
    seen.push(...page.map((vm) => vm.id));
    after = { time: last.startedAt.getTime(), key: last.id };
    await microvms.insert(someMicrovm({ state: "RUNNING", reason: null }, { startedAt: at(100) }));
  }
  expect(seen).toEqual(all.map((vm) => vm.id));

  expect(await microvms.page({ ...filter, imageVersion: 1, imageArn: "arn:other" }, undefined, 50)).toEqual([]);
  const odd = await microvms.page({ ...filter, imageVersion: 2 }, undefined, 50);
  expect(odd.every((vm) => vm.imageVersion === 2)).toBe(true);
});

test("activity moves forward only and does not disturb the generation", async () => {
  const { microvms } = await temporaryStore();
  const vm = someMicrovm({ state: "RUNNING", reason: null });
  await microvms.insert(vm);
  const later = new Date(vm.lastActivityAt.getTime() + 10_000);
  await microvms.recordActivity(new Map([[vm.id, later]]));
  await microvms.recordActivity(new Map([[vm.id, vm.lastActivityAt]]));
  expect(await microvms.find(vm.id)).toEqual({ ...vm, lastActivityAt: later });
});

test("receipts are kept in order, the newest hundred of them", async () => {
  const { microvms, receipts } = await temporaryStore();
  let vm = someMicrovm({ state: "RUNNING", reason: null });
  await microvms.insert(vm);
  for (let n = 1; n <= 103; n++) vm = await microvms.update({ next: vm, receipt: receipt(n) });
  const kept = await receipts.of(vm.id);
  expect(kept).toHaveLength(100);
  expect(kept[0]).toEqual(receipt(4));
  expect(kept.at(-1)).toEqual(receipt(103));
});

const receipt = (n: number): Receipt => ({
  operation: "suspend",
  startedAt: "2026-09-15T14:30:00.000Z",
  totalMs: n,
  phases: [{ name: "stop", ms: 1 }],
  bytesRead: 0,
  bytesWritten: n,
  reused: [],
});

test("ended microvms are forgotten when asked, with their receipts, and nothing else is", async () => {
  const store = await temporaryStore();
  const ended = (ms: number) => someMicrovm({ state: "TERMINATED", reason: "Success.", terminatedAt: new Date(ms) });
  const [late, early, needed] = [ended(20), ended(10), ended(5)];
  const ending = someMicrovm({ state: "TERMINATING", reason: "Success.", hook: false });
  for (const vm of [late, early, needed, ending]) await store.microvms.insert(vm);
  await store.checkpoints.insert(someCheckpoint({ state: "CREATING" }, { microvmId: needed.id }));
  expect(await store.microvms.endedBefore(new Date(20), 10)).toEqual([early.id]);
  expect(await store.microvms.endedBefore(new Date(21), 10)).toEqual([early.id, late.id]);
  expect(await store.microvms.endedBefore(new Date(21), 1)).toEqual([early.id]);
  for (const { id } of [early, early, ending]) await store.microvms.forget(id);
  expect(await store.microvms.find(early.id)).toBeUndefined();
  expect(await store.microvms.find(ending.id)).toEqual(ending);
});
