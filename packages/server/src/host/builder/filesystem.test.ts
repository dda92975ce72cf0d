import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeOutput, placeFilesystem, readOutput } from "./filesystem.ts";

const never = new AbortController().signal;
const uid = process.getuid?.() ?? 0;
// A file system other than that of the temporary folder, where there is one.
const elsewhere =
  (await stat("/dev/shm").catch(() => undefined))?.dev !== (await stat(tmpdir())).dev ? "/dev/shm" : tmpdir();

let here: string;
let there: string;
beforeEach(async () => {
  here = await mkdtemp(join(tmpdir(), "filesystem-"));
  there = await mkdtemp(join(elsewhere, "filesystem-"));
});
afterEach(async () => {
  for (const folder of [here, there]) await rm(folder, { recursive: true, force: true });
});

test.runIf(uid === 0)("a disk gets its place whole, with its holes, also on another file system", async () => {
  for (const to of [join(here, "to"), join(there, "to")]) {
    const from = join(here, "from");
    await makeOutput(from, 300_000, 64 << 20);
    await writeFile(from, "content", { flag: "r+" });
    const allocated = await placeFilesystem(from, to, never);
    const { size, uid: owner, mode } = await stat(to);
    expect([size, owner, mode & 0o777]).toEqual([64 << 20, 0, 0o600]);
    expect(allocated).toBeLessThan(1 << 20);
    expect((await readFile(to)).subarray(0, 7).toString()).toBe("content");
    await rm(from, { force: true });
  }
  expect(await readdir(there)).toEqual(["to"]);
});

test("an output is never larger than asked for, nor read through a link", async () => {
  const path = join(here, "out");
  await makeOutput(path, uid);
  await writeFile(path, "12345", { flag: "r+" });
  expect(await readOutput(path, 5)).toBe("12345");
  expect(await readOutput(path, 4)).toBeUndefined();
  await symlink(path, join(here, "link"));
  await expect(readOutput(join(here, "link"), 5)).rejects.toThrow(/ELOOP/);
});
