import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { LogReading } from "../../control/logs/reading.ts";
import { systemClock } from "../../lib/clock.ts";
import { createLog } from "../../lib/log.ts";
import { LogStore } from "../../logs/log-store.ts";
import { startApi, type TestApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

let api: TestApi;
let store: LogStore;
beforeEach(async () => {
  const dir = await mkdtemp(join(tmpdir(), "torpor-logs-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const log = createLog("silent");
  store = await LogStore.open(dir, { clock: systemClock, log, retentionMs: 1e12, maxBytes: 1 << 30 });
  onTestFinished(() => store.close());
  api = await startApi({ extensions: { logGroups: new LogReading({ region: "us-east-1", logs: store }) } });
});

async function write(group: string, stream: string, text: string, accountId = KEY.accountId): Promise<void> {
  await store.append({ accountId, group, stream }, { time: Date.now(), text });
  await store.settled();
}

const get = (what: string, query: Record<string, string> = {}) =>
  api.send({ method: "GET", path: `/torpor/v1/logs/${what}`, query });

test("groups and streams are listed in pages", async () => {
  for (const name of ["/a", "/b", "/c"]) await write(name, "s", "x");
  await write("/theirs", "s", "x", "999999999999");
  const first = Object(await (await get("groups", { maxResults: "2" })).json());
  expect(first).toMatchObject({ items: [{ name: "/a", bytes: expect.any(Number) }, { name: "/b" }] });
  const second = await (await get("groups", { maxResults: "2", nextToken: first.nextToken })).json();
  expect(second).toMatchObject({ items: [{ name: "/c" }], nextToken: null });
  expect(await (await get("streams", { group: "/a" })).json()).toMatchObject({ items: [{ name: "s" }] });
});

test("events are lines of JSON, filtered and from a time on", async () => {
  for (const text of ["one", "two ERROR", "three"]) await write("/g", "s", text);
  const all = (await (await get("events", { group: "/g" })).text())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(all.map(({ text }) => text)).toEqual(["one", "two ERROR", "three"]);
  expect(all[0]).toEqual({
    id: expect.stringMatching(/^\d{56}$/),
    stream: "s",
    time: expect.any(Number),
    ingested: expect.any(Number),
    text: "one",
  });
  expect(await (await get("events", { group: "/g", filter: "ERROR" })).text()).toContain("two ERROR");
  expect(await (await get("events", { group: "/g", from: String(Date.now() + 60_000) })).text()).toBe("");
});

test("with follow, what comes later comes, and the server's end ends it", async () => {
  await write("/g", "s", "one");
  const response = await get("events", { group: "/g", follow: "true" });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  expect((await reader.read()).value).toContain("one");
  await write("/g", "new stream", "two");
  expect((await reader.read()).value).toContain("two");
  const ended = reader.read();
  await Promise.all([api.server.close(), expect(ended).rejects.toThrow()]);
});

test.each([
  ["events", {}, 400, "group: expected the name of a log group"],
  ["events", { group: "/g", from: "yesterday" }, 400, "from: expected a whole number"],
  ["events", { group: "/g", filter: "%x%" }, 400, "Regular expressions"],
  ["events", { group: "/g", stream: "t" }, 404, "The specified log stream does not exist."],
  ["events", { group: "/nope" }, 404, "The specified log group does not exist."],
  ["streams", { group: "/nope", follow: "true" }, 404, "The specified log group does not exist."],
  ["groups", { nextToken: "x" }, 400, "nextToken"],
  ["streams", { group: "/g", orderBy: "size" }, 400, "expected name or time"],
])("%s %j is refused", async (what, query, status, reason) => {
  await write("/g", "s", "x");
  const response = await get(what, query);
  expect(response.status).toBe(status);
  expect(Object(await response.json()).message).toContain(reason);
});

test("nobody reads without a signature", async () => {
  expect((await fetch(`${api.url}/torpor/v1/logs/groups`)).status).toBe(403);
});
