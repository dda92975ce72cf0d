import { join } from "node:path";
import { expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { temporaryFolder } from "../../store/testing.ts";
import { BuildLogs } from "./build-log.ts";

const never = new AbortController().signal;

async function logs(): Promise<BuildLogs> {
  return new BuildLogs(join(await temporaryFolder(), "builds"), createLog("silent"));
}

async function all(reader: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const part of reader) text += part;
  return text;
}

test("a reader sees what is there; one that follows also what comes", async () => {
  const folder = await logs();
  const log = await folder.begin("build");
  log.write("first\n");
  expect(await all(folder.read("build", { follow: false }, never))).toBe("first\n");
  const reader = folder.read("build", { follow: true }, never);
  expect((await reader.next()).value).toBe("first\n");
  const next = reader.next();
  log.write("sécond\n");
  expect((await next).value).toBe("sécond\n");
  const last = reader.next();
  log.close("done");
  expect((await last).value).toBe("done\n");
  expect((await reader.next()).done).toBe(true);
  expect(await all(folder.read("build", { follow: true }, never))).toBe("first\nsécond\ndone\n");
});

test("a character that is cut by the size of a read comes whole", async () => {
  const folder = await logs();
  const log = await folder.begin("build");
  const text = `x${"é".repeat(100_000)}`;
  log.write(text);
  log.close("done");
  expect(await all(folder.read("build", { follow: false }, never))).toBe(`${text}done\n`);
});

test("a log has an end, and its last words are kept", async () => {
  const folder = await logs();
  const log = await folder.begin("build");
  const line = `${"y".repeat((1 << 20) - 1)}\n`;
  for (let i = 0; i < 20; i++) log.write(line);
  log.close(`error: ${"z".repeat(1 << 20)}`);
  const text = await all(folder.read("build", { follow: false }, never));
  expect(text.length).toBeLessThanOrEqual(16 << 20);
  expect(text.split("[the log is full").length).toBe(2);
  expect(text.slice(15 << 20)).toContain("error: zzz");
});

test("a reader that goes away stops waiting", async () => {
  const folder = await logs();
  const log = await folder.begin("build");
  const leaving = new AbortController();
  const reading = all(folder.read("build", { follow: true }, leaving.signal));
  leaving.abort(new Error("gone"));
  await expect(reading).rejects.toThrow("gone");
  log.close("done");
});

test("a build without a log has none", async () => {
  expect(await all((await logs()).read("unknown", { follow: true }, never))).toBe("");
});
