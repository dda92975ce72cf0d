import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { errnoOf, TorporError } from "../lib/errors.ts";
import { isBusy } from "./errors.ts";

/**
 * Keeps a second server off a database. The lock is SQLite's own on an empty database beside it, held by an open
 * transaction: the kernel drops it with the process, however that ends. The pid file only names the holder, and one
 * that is still there when the lock is free tells of an unclean end.
 */
export interface StoreLock {
  /** The previous holder did not release the lock: it was killed, or the machine went down. */
  readonly afterUncleanExit: boolean;
  /** `clean` unless the database was left in doubt: then the next holder checks it. */
  release(end: "clean" | "unclean"): void;
}

/** @throws TorporError `conflict` at once, naming the holder's pid, when another server has the lock. */
export function takeStoreLock(databasePath: string): StoreLock {
  const lockPath = `${databasePath}.lock`;
  const pidPath = `${databasePath}.pid`;
  createPrivate(lockPath);
  const lock = new DatabaseSync(lockPath, { timeout: 0 });
  try {
    lock.exec("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE");
  } catch (err) {
    lock.close();
    if (!isBusy(err)) throw err;
    throw new TorporError(
      "conflict",
      `Another Torpor server (pid ${readPid(pidPath) ?? "unknown"}) uses ${databasePath}. Stop it first, or give this one a data directory of its own.`,
      { cause: err },
    );
  }
  const afterUncleanExit = readPid(pidPath) !== undefined;
  writeFileSync(pidPath, `${process.pid}\n`, { mode: 0o600 });
  return {
    afterUncleanExit,
    release(end) {
      if (!lock.isOpen) return;
      if (end === "clean") rmSync(pidPath, { force: true });
      lock.close();
    },
  };
}

/**
 * Makes the file readable for us alone before SQLite opens it. Never opens one that is there: closing it again would
 * drop the POSIX locks that this process holds on it.
 */
export function createPrivate(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (err) {
    if (errnoOf(err) !== "EEXIST") throw err;
  }
}

function readPid(path: string): string | undefined {
  try {
    const text = readFileSync(path, "utf8").trim();
    return /^\d+$/.test(text) ? text : "unknown";
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return undefined;
    throw err;
  }
}
