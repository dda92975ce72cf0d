import { expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { WarmSet, type WarmVmm } from "./warm.ts";

/** A clock that is stepped. */
function steppedClock() {
  let now = 0;
  let pending: { at: number; callback: () => void }[] = [];
  return {
    clock: {
      now: () => now,
      monotonic: () => now,
      after: (ms: number, callback: () => void) => {
        const timer = { at: now + ms, callback };
        pending.push(timer);
        return () => {
          pending = pending.filter((one) => one !== timer);
        };
      },
    },
    step(ms: number) {
      now += ms;
      const due = pending.filter(({ at }) => at <= now);
      pending = pending.filter(({ at }) => at > now);
      for (const { callback } of due) callback();
    },
  };
}

const MIB = 2 ** 20;
function vmm(evicted: string[], name: string, bytes = MIB, until = Number.POSITIVE_INFINITY): WarmVmm {
  return {
    kind: "standby",
    bytes,
    until,
    evict: async () => {
      evicted.push(name);
    },
  };
}

test("the oldest go when there is more than the budget, and what is taken is never evicted", async () => {
  const evicted: string[] = [];
  const set = new WarmSet({ maxBytes: 3 * MIB, clock: steppedClock().clock, log: createLog("silent") });
  const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => vmm(evicted, name));
  for (const one of [a!, b!, c!]) set.add(one);
  expect(set.take(b!)).toBe(true);
  expect(set.take(b!)).toBe(false);
  set.add(d!);
  expect(evicted).toEqual([]);
  set.add(vmm(evicted, "e", 2 * MIB));
  expect(evicted).toEqual(["a", "c"]);
  expect(set.take(a!)).toBe(false);
  await set.close();
  expect(evicted).toEqual(["a", "c", "d", "e"]);
});

test("what does not fit at all does not stay", async () => {
  const evicted: string[] = [];
  const set = new WarmSet({ maxBytes: MIB, clock: steppedClock().clock, log: createLog("silent") });
  const large = vmm(evicted, "large", 2 * MIB);
  set.add(large);
  expect(set.has(large)).toBe(false);
  expect(evicted).toEqual(["large"]);
  await set.close();
});

test("what has been kept for its time goes", async () => {
  const evicted: string[] = [];
  const { clock, step } = steppedClock();
  const set = new WarmSet({ maxBytes: 8 * MIB, clock, log: createLog("silent") });
  set.start();
  set.add(vmm(evicted, "short", MIB, 1500));
  set.add(vmm(evicted, "long", MIB, 10_000));
  step(1000);
  await new Promise(setImmediate);
  expect(evicted).toEqual([]);
  for (let n = 0; n < 20 && evicted.length === 0; n++) {
    step(1000);
    await new Promise((resolve) => setTimeout(resolve, 5)); // it reads /proc in between
  }
  expect(evicted).toEqual(["short"]);
  await set.close();
});
