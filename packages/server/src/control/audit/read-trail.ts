import { open } from "node:fs/promises";
import { join } from "node:path";
import type { AuditEvent } from "@torpor/protocol";
import { abortable } from "../../lib/abortable.ts";
import { errnoOf } from "../../lib/errors.ts";
import { matchesGlob } from "../identity/glob.ts";
import type { AuditTrail } from "./trail.ts";
import { fileName, numbersIn } from "./trail-files.ts";

const CHUNK_BYTES = 64 * 1024;

export interface AuditFilter {
  /** undefined: all accounts. */
  readonly accountId?: string | undefined;
  readonly since?: Date | undefined;
  /** With `*` and `?`, whatever the case: `lambda:*Microvm`. */
  readonly operation?: string | undefined;
  /** `success`, `failure`, or the type of an error. */
  readonly outcome?: string | undefined;
}

/** Events in the order in which they were written; with `follow` also those to come, until the signal. */
export async function* readTrail(
  trail: Pick<AuditTrail, "folder" | "end" | "changed">,
  filter: AuditFilter,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<AuditEvent> {
  let { file, bytes } = { file: await firstFile(trail.folder, filter.since), bytes: 0 };
  for (;;) {
    const { changed, end } = trail;
    const last = file >= end.file;
    for await (const line of linesOf(join(trail.folder, fileName(file)), bytes, last ? end.bytes : undefined)) {
      signal.throwIfAborted();
      const event = parseEvent(line);
      if (event && matches(event, filter)) yield event;
    }
    if (!last) {
      const numbers = await numbersIn(trail.folder); // the next one may be deleted already
      ({ file, bytes } = { file: numbers.find((number) => number > file) ?? end.file, bytes: 0 });
      continue;
    }
    bytes = end.bytes;
    if (!follow) return;
    await abortable(changed, signal);
  }
}

/** The first file that may hold what is not older than `since`: files follow each other in time. */
async function firstFile(folder: string, since: Date | undefined): Promise<number> {
  const numbers = await numbersIn(folder);
  let first = numbers[0] ?? 1;
  for (const number of since ? numbers.slice(1) : []) {
    for await (const line of linesOf(join(folder, fileName(number)), 0, undefined)) {
      const event = parseEvent(line);
      if (!event) continue;
      if (Date.parse(event.time) >= since!.getTime()) return first;
      break;
    }
    first = number;
  }
  return first;
}

/** Complete lines from one place to another; none of a file that is gone. */
async function* linesOf(path: string, from: number, to: number | undefined): AsyncGenerator<string> {
  await using handle = await open(path, "r").catch((err: unknown) => {
    if (errnoOf(err) === "ENOENT") return undefined;
    throw err;
  });
  if (!handle) return;
  let rest = Buffer.alloc(0);
  for (let at = from; to === undefined || at < to; ) {
    const wanted = Math.min(CHUNK_BYTES, to === undefined ? CHUNK_BYTES : to - at);
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(wanted), 0, wanted, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      yield rest.toString("utf8", 0, end);
      rest = rest.subarray(end + 1);
    }
  }
}

/** Undefined for what a crash has left of a line. */
function parseEvent(line: string): AuditEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof event === "object" && event !== null && "time" in event ? (event as AuditEvent) : undefined;
  } catch {
    return undefined;
  }
}

function matches(event: AuditEvent, { accountId, since, operation, outcome }: AuditFilter): boolean {
  if (accountId !== undefined && event.accountId !== accountId) return false;
  if (since !== undefined && Date.parse(event.time) < since.getTime()) return false;
  if (operation !== undefined && !matchesGlob(operation.toLowerCase(), event.operation.toLowerCase())) return false;
  if (outcome === undefined) return true;
  if (outcome === "success") return event.error === null;
  return outcome === "failure" ? event.error !== null : event.error === outcome;
}
