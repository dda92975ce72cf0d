import { expect, test } from "vitest";
import { BuildQueue } from "./build-queue.ts";

const never = new AbortController().signal;

/** Work that ends when it is told to. */
function job(queue: BuildQueue, account: string, signal = never) {
  const { promise, resolve } = Promise.withResolvers<void>();
  let running = false;
  const done = queue.run(
    account,
    async () => {
      running = true;
      await promise;
      running = false;
    },
    signal,
  );
  return { end: resolve, done, isRunning: () => running };
}
const settle = () => new Promise((resolve) => setImmediate(resolve));

test("an account's builds run one after another, others beside them, up to the limit", async () => {
  const queue = new BuildQueue(2);
  const a1 = job(queue, "a");
  const a2 = job(queue, "a");
  const b = job(queue, "b");
  const c = job(queue, "c");
  const running = () => [a1, a2, b, c].map((each) => each.isRunning());
  await settle();
  expect(running()).toEqual([true, false, true, false]);
  b.end();
  await b.done;
  await settle();
  expect(running()).toEqual([true, false, false, true]);
  a1.end();
  await a1.done;
  await settle();
  expect(running()).toEqual([false, true, false, true]);
  for (const each of [a2, c]) each.end();
  await Promise.all([a2.done, c.done]);
});

test("who gives up waiting leaves, and the one behind moves up", async () => {
  const queue = new BuildQueue(1);
  const first = job(queue, "a");
  const abort = new AbortController();
  const second = job(queue, "b", abort.signal);
  const third = job(queue, "c");
  const refused = expect(second.done).rejects.toThrow("enough");
  abort.abort(new Error("enough"));
  await refused;
  first.end();
  await first.done;
  await settle();
  expect(third.isRunning()).toBe(true);
  third.end();
  await third.done;
});

test("work that fails makes room", async () => {
  const queue = new BuildQueue(1);
  await expect(queue.run("a", () => Promise.reject(new Error("no")), never)).rejects.toThrow("no");
  await expect(queue.run("a", async () => 1, never)).resolves.toBe(1);
});
