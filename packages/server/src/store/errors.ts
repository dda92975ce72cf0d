import { TorporError } from "../lib/errors.ts";

/**
 * A row was not as the writer had read it: someone else moved it on. The writer's picture is wrong and nothing was
 * written; it must read again before it decides anything.
 */
export class StaleWriteError extends Error {
  override readonly name = "StaleWriteError";
  constructor(what: string, generation: number) {
    super(`${what} is no longer at generation ${generation}: the write was refused`);
  }
}

/** What was to be written continues from a checkpoint that is not AVAILABLE (any more). Nothing was written. */
export class CheckpointUnavailableError extends Error {
  override readonly name = "CheckpointUnavailableError";
  readonly checkpointId: string;
  constructor(checkpointId: string) {
    super(`checkpoint ${checkpointId} is not available`);
    this.checkpointId = checkpointId;
  }
}

// Primary result codes, https://www.sqlite.org/rescode.html
const BUSY = 5;
const LOCKED = 6;
const BROKEN = new Map([
  [8, "it is read-only"],
  [10, "a disk read or write failed"],
  [11, "it is damaged"],
  [13, "the disk is full"],
  [14, "it cannot be opened"],
  [26, "it is not a database"],
]);

/** True when another connection holds the lock that a statement needs. */
export function isBusy(err: unknown): boolean {
  const code = resultCode(err);
  return code === BUSY || code === LOCKED;
}

/** SQLite's failures as the rest of the server knows them; what is a bug (constraint, syntax) stays as it is. */
export function storeError(err: unknown): unknown {
  if (isBusy(err))
    return new TorporError("unavailable", "The database is locked by another process; try again.", {
      cause: err,
      retryAfterSeconds: 1,
    });
  const why = BROKEN.get(resultCode(err) ?? -1);
  if (why === undefined) return err;
  return new TorporError("unavailable", `The database cannot be used: ${why}.`, { cause: err, retryAfterSeconds: 5 });
}

/** The primary code is the low byte of the extended one. */
function resultCode(err: unknown): number | undefined {
  if (!(err instanceof Error) || !("errcode" in err) || typeof err.errcode !== "number") return undefined;
  return err.errcode & 0xff;
}
