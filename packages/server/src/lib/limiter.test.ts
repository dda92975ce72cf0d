import { expect, test } from "vitest";
import { Limiter } from "./limiter.ts";

const never = new AbortController().signal;

/** Work that ends when it is told to. */
function job(limiter: Limiter, priority: "urgent" | "idle", log: string[], name: string, signal = never) {
  const gate = Promise.withResolvers<void>();
  const done = limiter.run(priority, signal, async () => {
    log.push(name);
    await gate.promise;
  });
  done.catch(() => {});
  return { finish: gate.resolve, done };
}
const settle = async (): Promise<void> => {
  for (let n = 0; n < 10; n++) await Promise.resolve();
};

test("so much runs at once, urgent work before idle work, each in the order of asking", async () => {
  const limiter = new Limiter(2);
  const log: string[] = [];
  const jobs = [
    job(limiter, "idle", log, "idle 1"),
    job(limiter, "idle", log, "idle 2"),
    job(limiter, "idle", log, "idle 3"),
    job(limiter, "urgent", log, "urgent 1"),
    job(limiter, "urgent", log, "urgent 2"),
  ];
  await settle();
  expect(log).toEqual(["idle 1", "idle 2"]);
  for (const { finish, done } of [jobs[0]!, jobs[1]!, jobs[3]!, jobs[4]!, jobs[2]!]) {
    finish();
    await done;
  }
  expect(log).toEqual(["idle 1", "idle 2", "urgent 1", "urgent 2", "idle 3"]);
});

test("who gives up while waiting makes room for the next, and work that fails does as well", async () => {
  const limiter = new Limiter(1);
  const log: string[] = [];
  const first = job(limiter, "urgent", log, "first");
  const impatient = new AbortController();
  const second = job(limiter, "urgent", log, "second", impatient.signal);
  const third = job(limiter, "urgent", log, "third");
  impatient.abort(new Error("too long"));
  await expect(second.done).rejects.toThrow("too long");
  first.finish();
  await first.done;
  third.finish();
  await third.done;
  expect(log).toEqual(["first", "third"]);
  await expect(limiter.run("urgent", never, () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
  await expect(limiter.run("urgent", never, async () => 7)).resolves.toBe(7);
});
