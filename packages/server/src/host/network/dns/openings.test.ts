import { expect, test } from "vitest";
import { Openings } from "./openings.ts";

class SteppedClock {
  ms = 0;
  monotonic(): number {
    return this.ms;
  }
}
const opening = (address: string, seconds = 60) => ({ set: "names", address, seconds });

function world() {
  const clock = new SteppedClock();
  const told: string[] = [];
  let gate: Promise<void> | undefined;
  const openings = new Openings(clock, async (nft) => {
    await gate;
    told.push(nft);
  });
  return { clock, told, openings, hold: (until: Promise<void> | undefined) => (gate = until) };
}

test("what is open for long enough is not opened again", async () => {
  const { clock, told, openings } = world();
  await openings.open([opening("1.1.1.1", 100)]);
  await openings.open([opening("1.1.1.1", 100)]);
  clock.ms = 20_000;
  await openings.open([opening("1.1.1.1", 100)]);
  expect(told).toHaveLength(1);
  clock.ms = 40_000;
  await openings.open([opening("1.1.1.1", 100)]);
  expect(told).toHaveLength(2);
});

test("an element is put in for its time, whether it was there or not", async () => {
  const { told, openings } = world();
  await openings.open([opening("1.1.1.1", 1), opening("1.1.1.1", 500)]);
  expect(told).toEqual([
    "add element ip torpor names { 1.1.1.1 }\ndelete element ip torpor names { 1.1.1.1 }\nadd element ip torpor names { 1.1.1.1 timeout 530s }\n",
  ]);
});

test("what comes meanwhile waits for one more time, together", async () => {
  const { told, openings, hold } = world();
  const { promise, resolve } = Promise.withResolvers<void>();
  hold(promise);
  const all = ["1", "2", "3", "4"].map((n) => openings.open([opening(`1.1.1.${n}`)]));
  const first = openings.open([opening("1.1.1.9")]);
  resolve();
  await Promise.all([...all, first]);
  expect(told.length).toBeLessThanOrEqual(2);
});

test("a failure is everybody's who waited for it, and nobody's after", async () => {
  const clock = new SteppedClock();
  let broken = true;
  const openings = new Openings(clock, async () => {
    if (broken) throw new Error("the kernel refuses");
  });
  await expect(openings.open([opening("1.1.1.1")])).rejects.toThrow("refuses");
  broken = false;
  await openings.open([opening("1.1.1.1")]);
});

test("more than a set holds is refused before the kernel does", async () => {
  const { openings, told, clock } = world();
  const many = (from: number, count: number) =>
    Array.from({ length: count }, (_, n) => opening(`1.${from}.${n >> 8}.${n & 255}`));
  await openings.open(many(1, 4000));
  await expect(openings.open(many(2, 200))).rejects.toThrow(/more than 4096/);
  expect(told).toHaveLength(1);
  clock.ms = 91_000; // those before have gone
  await openings.open(many(2, 200));
});
