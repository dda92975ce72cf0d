import { appendFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { removeWorkloadLog, WorkloadLog } from "./workload-log.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-log-"));
});
afterEach(() => rm(dir, { recursive: true }));

const line = (seq: number, text = `line ${seq}`) => ({ seq, time: seq, stream: "stdout" as const, text });
const never = new AbortController().signal;
const texts = async (log: WorkloadLog, follow = false): Promise<string[]> => {
  const got = [];
  for await (const l of log.lines({ follow }, never)) got.push(l.text);
  return got;
};

test("lines are kept in order and numbers that come again are not", async () => {
  const log = new WorkloadLog(join(dir, "a"));
  for (const n of [1, 2, 2, 1, 3]) await log.append(line(n));
  expect(await texts(log)).toEqual(["line 1", "line 2", "line 3"]);
  await log.close();
});

test("a new daemon goes on after the newest line, whatever a crash left behind it", async () => {
  const first = new WorkloadLog(join(dir, "a"));
  await first.append(line(7));
  await first.close();
  await appendFile(join(dir, "a"), '{"seq":8,"time'); // torn
  const second = new WorkloadLog(join(dir, "a"));
  expect(await second.lastSeq()).toBe(7);
  await second.append(line(8));
  expect(await texts(second)).toEqual(["line 7", "line 8"]);
  await second.close();
});

test("a follower gets what was there and what comes, and ends with the microvm", async () => {
  const log = new WorkloadLog(join(dir, "a"));
  await log.append(line(1));
  const following = texts(log, true);
  await log.append(line(2));
  await log.append(line(3));
  await log.close();
  expect(await following).toEqual(["line 1", "line 2", "line 3"]);
});

test("a workload that writes without end keeps two bounded files with its newest lines", async () => {
  const log = new WorkloadLog(join(dir, "a"));
  const text = "x".repeat(16_000);
  for (let n = 1; n <= 800; n++) await log.append(line(n, text));
  expect((await readdir(dir)).sort()).toEqual(["a", "a.1"]);
  let bytes = 0;
  for await (const l of log.lines({ follow: false }, never)) bytes += l.text.length;
  expect(bytes).toBeLessThan(10 << 20);
  await log.close();
});

test("lines from before the microvm are left out", async () => {
  const log = new WorkloadLog(join(dir, "a"));
  log.skipTo(5);
  for (let n = 1; n <= 6; n++) await log.append(line(n));
  expect(await texts(log)).toEqual(["line 6"]);
  await log.close();
});

test("nothing is left of a log that is removed, and removing it twice is the same", async () => {
  const path = join(dir, "a");
  const log = new WorkloadLog(path);
  for (let n = 1; n <= 6; n++) await log.append(line(n, "x".repeat(1 << 20)));
  await log.close();
  expect(await readdir(dir)).toEqual(["a", "a.1"]);
  for (let i = 0; i < 2; i++) await removeWorkloadLog(path);
  expect(await readdir(dir)).toEqual([]);
});

test("every line has its position, which goes on when numbers of the agent come again, and with the next daemon", async () => {
  const all = async (log: WorkloadLog, after = 0) => {
    const got = [];
    for await (const { position, text } of log.lines({ follow: false, after }, never)) got.push([position, text]);
    return got;
  };
  const first = new WorkloadLog(join(dir, "a"));
  for (const n of [1, 2, 3]) await first.append(line(n));
  first.rewindTo(1);
  await first.append(line(2, "again"));
  await first.close();
  const second = new WorkloadLog(join(dir, "a"));
  second.skipTo(2);
  await second.append(line(3, "further"));
  const end = [
    [4, "again"],
    [5, "further"],
  ];
  expect(await all(second)).toEqual([[1, "line 1"], [2, "line 2"], [3, "line 3"], ...end]);
  expect(await all(second, 3)).toEqual(end);
  await second.close();
});

test("a reader who is slower than the workload loses nothing that is still in the files", async () => {
  const log = new WorkloadLog(join(dir, "a"));
  await log.append(line(1));
  const reading = log.lines({ follow: true }, never);
  expect((await reading.next()).value?.text).toBe("line 1");
  for (let n = 2; n <= 5000; n++) await log.append(line(n));
  const got: number[] = [];
  for await (const { position } of reading) if (got.push(position) === 4999) break;
  expect(got).toEqual(Array.from({ length: 4999 }, (_, i) => i + 2));
  await log.close();
});

test("a reader who comes back too late is told how many lines are gone", async () => {
  const log = new WorkloadLog(join(dir, "a"));
  for (let n = 1; n <= 800; n++) await log.append(line(n, "x".repeat(16_000)));
  const reading = log.lines({ follow: false, after: 10 }, never);
  const first = (await reading.next()).value;
  const second = (await reading.next()).value;
  expect(first?.text).toBe(`(${(second?.position ?? 0) - 11} lines lost)`);
  expect(first?.position).toBe((second?.position ?? 0) - 1);
  await reading.return(undefined);
  await log.close();
});
