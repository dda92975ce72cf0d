import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { syncFolder } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import { run } from "../../lib/run.ts";
import { allocatedBytes } from "./disk-guard.ts";

const READ = constants.O_RDONLY | constants.O_NOFOLLOW;

/** A file of `bytes` zeros that the jail may write to, and nothing else beside it. */
export async function makeOutput(path: string, uid: number, bytes = 0): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await file.truncate(bytes);
  await file.chown(uid, uid);
}

/** What the jail wrote into an output; undefined when it is more than `max` bytes. */
export async function readOutput(path: string, max: number): Promise<string | undefined> {
  await using file = await open(path, READ);
  const { size } = await file.stat();
  return size > max ? undefined : file.readFile("utf8");
}

/**
 * Gives a finished disk its place: owned by root, readable by nobody else, durable, and there whole or not at all.
 * @returns what it takes up on the disk, in bytes
 */
export async function placeFilesystem(from: string, to: string, signal: AbortSignal): Promise<number> {
  await using file = await open(from, READ);
  await settle(file);
  try {
    await rename(from, to);
  } catch (err) {
    if (errnoOf(err) !== "EXDEV") throw err;
    // Another file system: a copy that keeps the holes, under another name until it is whole.
    const temporary = `${to}.tmp`;
    try {
      await run("cp", ["--sparse=always", "--", from, temporary], { signal });
      await using copy = await open(temporary, READ);
      await settle(copy);
      await rename(temporary, to);
    } finally {
      await rm(temporary, { force: true });
    }
  }
  await syncFolder(dirname(to));
  return allocatedBytes(to);
}

async function settle(file: FileHandle): Promise<void> {
  await file.chown(0, 0);
  await file.chmod(0o600);
  await file.sync();
}
