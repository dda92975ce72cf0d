import { expect, test } from "vitest";
import { temporaryStore } from "../store/testing.ts";
import { SteadyTime } from "./steady-time.ts";
import { FakeClock } from "./testing/fake-clock.ts";

test("follows the wall clock and its small corrections", async () => {
  const { settings } = await temporaryStore();
  const clock = new FakeClock();
  const steady = await SteadyTime.load(clock, settings);
  expect(steady.now()).toBe(clock.now());
  await clock.advance(5000);
  clock.jump(-59_000);
  expect(steady.now()).toBe(clock.now());
  expect(await steady.absorbJump()).toBe(false);
});

test("goes on through a jump in either direction, also after a restart", async () => {
  const { settings } = await temporaryStore();
  const clock = new FakeClock();
  const steady = await SteadyTime.load(clock, settings);
  const before = steady.now();
  clock.jump(86_400_000);
  await clock.advance(1000);
  expect(steady.now()).toBe(before + 1000);
  expect(steady.toDate(before + 1000)).toEqual(new Date(clock.now()));
  expect(await steady.absorbJump()).toBe(true);
  expect(await steady.absorbJump()).toBe(false);

  const next = await SteadyTime.load(clock, settings);
  expect(next.now()).toBe(before + 1000);
  clock.jump(-86_400_000);
  expect(next.now()).toBe(before + 1000);
  expect(await next.absorbJump()).toBe(true);
  expect((await SteadyTime.load(clock, settings)).now()).toBe(clock.now());
});

test("a jump that could not be kept is offered again", async () => {
  const clock = new FakeClock();
  let full = true;
  const steady = await SteadyTime.load(clock, {
    get: async () => undefined,
    set: async () => {
      if (full) throw new Error("disk full");
    },
  });
  clock.jump(100_000);
  await expect(steady.absorbJump()).rejects.toThrow("disk full");
  full = false;
  expect(await steady.absorbJump()).toBe(true);
});
