import { fileURLToPath } from "node:url";
import { SuspendMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { TorporClient } from "@torpor/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, RunningMicrovm, terminate, untilState } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";
import { ask } from "./workload.ts";

/** A workload that notes a random value and the time each millisecond. */
const TICKER = fileURLToPath(new URL("ticker", import.meta.url));
/** Number, random bytes, seconds since the epoch. */
type Tick = readonly [count: number, random: string, time: number];
/** How far a snapshot's clock must be behind to be told from a right one, in seconds. */
const STALE = 3;

let server: TestServer;
let torpor: TorporClient;
let image: string;
beforeAll(async () => {
  server = await TestServer.start();
  torpor = new TorporClient({ ...server.credentials, credentials: server.credentials });
  image = await buildImage(server, "ticker", TICKER);
});
afterAll(() => server?.[Symbol.asyncDispose]());

const now = (): number => Date.now() / 1000;
const later = async (seconds: number): Promise<void> => {
  const then = now() + seconds;
  await eventually(`${seconds} s`, async () => (now() >= then ? true : undefined));
};
const ticks = (vm: RunningMicrovm): Promise<Tick[]> => ask<Tick[]>(vm, "/");

/**
 * Random values that more than one of them made. One that was made before they parted is the same tick, at the same
 * time, in all of them; one that several make afterwards has another time in each.
 */
function sharedRandoms(lists: readonly (readonly Tick[])[]): string[] {
  const made = new Map<string, number>();
  const shared = new Set<string>();
  for (const [, random, time] of lists.flat())
    if ((made.get(random) ?? time) !== time) shared.add(random);
    else made.set(random, time);
  return [...shared];
}

/** What each did by itself, since they parted. */
function own(lists: readonly (readonly Tick[])[]): Tick[][] {
  const seen = new Map<number, number>();
  for (const [, , time] of lists.flat()) seen.set(time, (seen.get(time) ?? 0) + 1);
  return lists.map((list) => list.filter(([, , time]) => seen.get(time) === 1));
}

/** Ticks of a clone that it made with a clock from before it was somebody. */
const stale = (list: readonly Tick[], bornAfter: number): Tick[] => list.filter(([, , time]) => time < bornAfter - 1);

test("no two forks make the same random value, and none sees the past's clock", async () => {
  const parent = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  await ticks(parent);
  const { checkpointId } = await torpor.createCheckpoint(parent.id);
  const goesOn = await ticks(parent);
  await later(STALE);
  const bornAfter = now();
  const { items } = await torpor.fork(checkpointId, { count: 6 });
  const forks = await Promise.all(items.map((item) => RunningMicrovm.open(server, item)));
  const lists = await Promise.all(forks.map(ticks));
  // The parent was stopped for the checkpoint only, and is part of the comparison: it goes on with the same generator.
  expect((await ticks(parent)).at(-1)![0]).toBeGreaterThan(goesOn.at(-1)![0] + 100);
  expect(sharedRandoms([goesOn, ...lists])).toEqual([]);
  for (const list of own(lists)) {
    expect(list.length).toBeGreaterThan(0);
    expect(stale(list, bornAfter)).toEqual([]);
  }
  await terminate(server, parent, ...forks);
  await torpor.deleteCheckpoint(checkpointId);
});

test("no two launches make the same random value, and none sees the template's clock", async () => {
  await later(STALE);
  const bornAfter: number[] = [];
  const vms: RunningMicrovm[] = [];
  for (let n = 0; n < 3; n++) {
    bornAfter.push(now());
    vms.push(await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST));
  }
  const lists = await Promise.all(vms.map(ticks));
  expect(sharedRandoms(lists)).toEqual([]);
  for (const [n, list] of own(lists).entries()) {
    expect(list.length).toBeGreaterThan(0);
    expect(stale(list, bornAfter[n]!)).toEqual([]);
  }
  await terminate(server, ...vms);
});

test("a microvm that slept goes on where it was, and its clock has jumped", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  const [last] = (await ticks(vm)).slice(-1);
  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "SUSPENDED");
  const asleep = now();
  await later(STALE);
  const awake = now();
  const after = (await ticks(vm)).filter(([count]) => count > last![0]);
  expect(after.map(([count]) => count)).toEqual(after.map((_, n) => last![0] + 1 + n));
  expect(after.at(-1)![2]).toBeGreaterThan(awake);
  expect(after.filter(([, , time]) => time > asleep && time < awake)).toEqual([]);
  await terminate(server, vm);
});
