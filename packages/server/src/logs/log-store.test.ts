import { appendFile, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { boundedText, decodeEvent, encodeEvent, eventId, MAX_TEXT_BYTES, timeOf } from "./event.ts";
import { LogStore, type LogStoreOptions } from "./log-store.ts";
import { compareFound, type FoundEvent, mergedEvents } from "./merge.ts";
import { folderOf } from "./names.ts";

const ACCOUNT = "000000000000";
const EVER = { from: 0, to: Number.MAX_SAFE_INTEGER };
const DAY = 86_400_000;

let dir: string;
let now: number;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-logs-"));
  now = 1_789_483_142_026;
});
afterEach(() => rm(dir, { recursive: true }));

const clock: Clock = { now: () => now, monotonic: () => now, after: () => () => {} };
const open = (options: Partial<LogStoreOptions> = {}): Promise<LogStore> =>
  LogStore.open(dir, { clock, log: createLog("silent"), retentionMs: 30 * DAY, maxBytes: 1 << 30, ...options });
const at = (group: string, stream: string, accountId = ACCOUNT) => ({ accountId, group, stream });

async function found(store: LogStore, group: string, range = EVER): Promise<FoundEvent[]> {
  const events: FoundEvent[] = [];
  const streams = [...(store.group(ACCOUNT, group)?.streams.values() ?? [])];
  for await (const event of mergedEvents(streams, range)) events.push(event);
  return events;
}
const texts = async (...args: Parameters<typeof found>): Promise<string[]> =>
  (await found(...args)).map(({ event }) => event.text);

test("what was appended is read in order, also by the next server", async () => {
  const first = await open();
  for (const text of ["a", "b", "c"]) await first.append(at("/g", "s"), { time: now, text });
  await first.settled();
  expect(await texts(first, "/g")).toEqual(["a", "b", "c"]);
  await first.close();
  const second = await open();
  await second.append(at("/g", "s"), { time: now, text: "d" });
  await second.settled();
  expect(await texts(second, "/g")).toEqual(["a", "b", "c", "d"]);
  expect((await found(second, "/g")).map(({ event }) => event.n)).toEqual([1, 2, 3, 4]);
});

test("names lead nowhere: whatever they are, there is nothing but folders of hexadecimal digits", async () => {
  const names = ["../../etc/passwd", "/", "..", "a/b", "A", "a", "\u0000", "x".repeat(512), "[1.0]", "é"];
  const store = await open();
  for (const name of names) await store.append(at(name, name), { time: now, text: name });
  await store.settled();
  for (const name of names) expect(await texts(store, name)).toEqual([name]);
  const entries = await readdir(dir, { recursive: true });
  const shape = /^0{12}(\/[0-9a-f]{40}(\/(group\.json|index\.jsonl|[0-9a-f]{40}(\/\d{16}\.jsonl)?))?)?$/;
  expect(entries.filter((entry) => !shape.test(entry))).toEqual([]);
  expect(new Set(names.map(folderOf)).size).toBe(names.length);
});

test("an account that is none is not made a folder of", async () => {
  const store = await open();
  expect(() => store.append(at("g", "s", "../x"), { time: now, text: "" })).toThrow("no account");
});

test("accounts do not see each other", async () => {
  const store = await open();
  await store.append(at("g", "s", "111111111111"), { time: now, text: "theirs" });
  await store.settled();
  expect(store.groups(ACCOUNT)).toEqual([]);
  expect(store.group(ACCOUNT, "g")).toBeUndefined();
});

test("after a crash, whole lines are there and a torn one is not; the stream goes on behind it", async () => {
  const dead = await open();
  for (const text of ["a", "b"]) await dead.append(at("g", "s"), { time: now, text });
  await dead.settled(); // and never closed
  const folder = join(dir, ACCOUNT, folderOf("g"), folderOf("s"));
  const [file] = await readdir(folder);
  await appendFile(join(folder, file!), '{"n":3,"t":178948314');
  await appendFile(join(dir, ACCOUNT, folderOf("g"), "index.jsonl"), '{"key":"torn');
  const next = await open();
  expect(await texts(next, "g")).toEqual(["a", "b"]);
  await next.append(at("g", "s"), { time: now, text: "c" });
  await next.settled();
  expect(await texts(next, "g")).toEqual(["a", "b", "c"]);
});

test("without its index a group is what its folders say", async () => {
  const first = await open();
  await first.append(at("g", "one"), { time: now, text: "1" });
  await first.settled();
  now++;
  await first.append(at("g", "two"), { time: now, text: "2" });
  await first.close();
  await rm(join(dir, ACCOUNT, folderOf("g"), "index.jsonl"));
  const second = await open();
  expect([...second.group(ACCOUNT, "g")!.streams.keys()].sort()).toEqual(["one", "two"]);
  expect(await texts(second, "g")).toEqual(["1", "2"]);
});

test("an index of nonsense is as good as none", async () => {
  const first = await open();
  await first.append(at("g", "s"), { time: now, text: "1" });
  await first.close();
  const nonsense = `null\n[]\n{"key":"../../x","name":"n","created":1,"segments":[]}\n{"key":"${folderOf("s")}"}\n\xff`;
  await writeFile(join(dir, ACCOUNT, folderOf("g"), "index.jsonl"), nonsense);
  expect(await texts(await open(), "g")).toEqual(["1"]);
});

test("a clean end leaves an index that says what the folders say", async () => {
  const first = await open();
  for (let i = 0; i < 3000; i++) await first.append(at("g", "s"), { time: now + i, text: "x".repeat(1000) });
  await first.close();
  const index = await readFile(join(dir, ACCOUNT, folderOf("g"), "index.jsonl"), "utf8");
  await rm(join(dir, ACCOUNT, folderOf("g"), "index.jsonl"));
  const scanned = (await open()).group(ACCOUNT, "g")!.streams.get("s")!.segments;
  await writeFile(join(dir, ACCOUNT, folderOf("g"), "index.jsonl"), index);
  const read = (await open()).group(ACCOUNT, "g")!.streams.get("s")!.segments;
  expect(scanned.length).toBeGreaterThan(2);
  expect(read).toEqual(scanned);
});

test("a stream that is written without end keeps its newest lines, in a bounded number of files", async () => {
  const store = await open();
  const text = "x".repeat(100_000);
  for (let i = 1; i <= 300; i++) await store.append(at("g", "s"), { time: now, text: `${i} ${text}` });
  await store.settled();
  const stream = store.group(ACCOUNT, "g")!.streams.get("s")!;
  expect(stream.bytes).toBeLessThan(40 << 20);
  expect((await readdir(stream.folder)).length).toBe(stream.segments.length);
  const kept = (await texts(store, "g")).map((line) => Number(line.split(" ")[0]));
  expect(kept.at(-1)).toBe(300);
  expect(kept[0]).toBeGreaterThan(1);
});

test("what is older than the retention goes, and then its stream and group", async () => {
  const store = await open();
  await store.append(at("old", "s"), { time: now, text: "old" });
  await store.settled();
  now += 31 * DAY;
  await store.append(at("new", "s"), { time: now, text: "new" });
  await store.settled();
  await store.trim();
  expect(store.groups(ACCOUNT).map(({ name }) => name)).toEqual(["new"]);
  expect(await readdir(join(dir, ACCOUNT))).toEqual([folderOf("new")]);
  // Its name can be used again.
  await store.append(at("old", "s"), { time: now, text: "again" });
  await store.settled();
  expect(await texts(store, "old")).toEqual(["again"]);
});

test("an account that has too much loses what is oldest, whichever stream that is in", async () => {
  const store = await open({ maxBytes: 4 << 20 });
  for (let i = 0; i < 80; i++) {
    now++;
    await store.append(at("g", `s${i % 4}`), { time: now, text: `${i} ${"x".repeat(200_000)}` });
    await store.settled();
  }
  await store.trim();
  const kept = (await texts(store, "g")).map((line) => Number(line.split(" ")[0]));
  expect(store.group(ACCOUNT, "g")!.bytes).toBeLessThanOrEqual(4 << 20);
  expect(kept).toContain(79);
  expect(kept).not.toContain(0);
});

test("of too many streams the one that was quiet for longest goes, and its folder", async () => {
  const store = await open({ maxStreams: 20 });
  for (let i = 0; i < 20; i++) {
    now++;
    await store.append(at("g", `s${i}`), { time: now, text: "x" });
    await store.settled();
  }
  now++;
  await store.append(at("g", "s0"), { time: now, text: "not quiet any more" });
  await store.settled();
  await store.append(at("h", "new"), { time: now, text: "x" });
  await store.close();
  const streams = [...store.group(ACCOUNT, "g")!.streams.keys()];
  expect(streams).toHaveLength(19);
  expect(streams).not.toContain("s1");
  expect(await readdir(join(dir, ACCOUNT, folderOf("g")))).not.toContain(folderOf("s1"));
});

test("of too many groups the one that was quiet for longest goes, and its name can be used at once", async () => {
  const store = await open({ maxGroups: 3 });
  for (const name of ["a", "b", "c", "d", "a"]) {
    now++;
    await store.append(at(name, "s"), { time: now, text: `${name} ${now}` });
    await store.settled();
  }
  await store.close();
  expect(store.groups(ACCOUNT).map(({ name }) => name)).toEqual(["a", "c", "d"]);
  expect(await texts(await open(), "a")).toEqual([`a ${now}`]);
  expect((await readdir(join(dir, ACCOUNT))).sort()).toEqual(["a", "c", "d"].map(folderOf).sort());
});

test("a disk that takes nothing costs lines, never an error, and what is lost is told when it takes some again", async () => {
  const store = await open();
  await store.append(at("g", "s"), { time: now, text: "before" });
  await store.settled();
  const folder = join(dir, ACCOUNT, folderOf("g"), folderOf("s"));
  // A file stands where the stream's folder was: writing fails as it would on a full disk.
  await rename(folder, `${folder}.away`);
  await writeFile(folder, "");
  const kept: boolean[] = [];
  store.listen((_target, _stream, _events, ok) => kept.push(ok));
  await store.append(at("g", "s"), { time: now, text: "lost 1" });
  await store.append(at("g", "s"), { time: now, text: "lost 2" });
  await store.settled();
  await rm(folder);
  await rename(`${folder}.away`, folder);
  await store.append(at("g", "s"), { time: now, text: "after" });
  await store.settled();
  expect(kept[0]).toBe(false);
  expect(await texts(store, "g")).toEqual(["before", "(2 lines lost: they could not be written)", "after"]);
});

test("streams are merged by time, whatever the order in which they were written", async () => {
  const clockFrom = now;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ stream: fc.nat(4), pause: fc.nat(3), big: fc.boolean() }), { maxLength: 60 }),
      fc.nat(60),
      fc.nat(60),
      async (lines, from, to) => {
        now = clockFrom;
        const group = `g${Math.random()}`;
        const store = await open();
        for (const { stream, pause, big } of lines) {
          now += pause;
          const text = big ? "x".repeat(70_000) : "x";
          await store.append(at(group, `s${stream}`), { time: now, text });
        }
        await store.settled();
        const all = await found(store, group);
        expect(all).toHaveLength(lines.length);
        expect([...all].sort(compareFound)).toEqual(all);
        const range = { from: clockFrom + from, to: clockFrom + to };
        const within = all.filter(({ event }) => event.time >= range.from && event.time <= range.to);
        expect((await found(store, group, range)).map(({ event }) => event)).toEqual(within.map(({ event }) => event));
      },
    ),
    { numRuns: 15 },
  );
});

test("time never runs backwards, and is never later than ours, whatever a guest's clock says", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.double({ noNaN: true }), fc.nat(1e6))), (lines) => {
      let ours = 1e12;
      let last = 0;
      for (const [claimed, pause] of lines) {
        ours += pause;
        const time = timeOf(claimed, last, ours);
        expect(time).toBeGreaterThanOrEqual(last);
        expect(time).toBeLessThanOrEqual(ours);
        expect(Number.isSafeInteger(time)).toBe(true);
        last = time;
      }
    }),
  );
});

test("a line of a stream's first minute is not from long ago, though the guest says so", () => {
  expect(timeOf(1, 0, 1e12)).toBe(1e12);
  expect(timeOf(1e12 - 3_600_000, 0, 1e12)).toBe(1e12 - 3_600_000);
});

test("events survive being written down, and nothing else is taken for one", () => {
  const source = fc.option(fc.record({ id: fc.string(), position: fc.nat() }), { nil: undefined });
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.string({ unit: "binary" }), source, (n, time, text, from) => {
      const event = { n, time, ingested: time + 1, text: boundedText(text), ...(from && { source: from }) };
      const line = encodeEvent(event);
      expect(line.indexOf("\n")).toBe(line.length - 1);
      expect(decodeEvent(line)).toEqual(event);
      expect(decodeEvent(line.slice(0, -2))).toBeUndefined();
    }),
  );
  fc.assert(fc.property(fc.json(), (json) => decodeEvent(json) === undefined));
});

test("a text that is too long is cut between characters", () => {
  const cut = boundedText("€".repeat(200_000));
  expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(MAX_TEXT_BYTES);
  expect(/^€+$/.test(cut)).toBe(true);
});

test("an event's id is 56 digits, and another one for each event", () => {
  const ids = [1, 2].flatMap((n) => ["a", "b"].map((key) => eventId(key, { n, time: 5, ingested: 5, text: "" })));
  expect(new Set(ids).size).toBe(4);
  for (const id of ids) expect(id).toMatch(/^\d{56}$/);
});
