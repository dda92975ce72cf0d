import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "../lib/errors.ts";
import { decodeEvent, type LogEvent } from "./event.ts";

/** A file of events that is only ever appended to, and what it holds: enough not to open it for most questions. */
export interface Segment {
  /** Names the file: no event in it has a lower place. */
  readonly first: number;
  /** Place of the newest event. */
  readonly last: number;
  /** What is known to be whole lines. */
  readonly bytes: number;
  readonly firstTime: number;
  readonly lastTime: number;
  readonly lastIngested: number;
}

/** The first line of each segment: a folder says whose it is even when the index was lost. */
export interface SegmentHeader {
  readonly stream: string;
  readonly created: number;
}

export const segmentFile = (folder: string, first: number): string =>
  join(folder, `${String(first).padStart(16, "0")}.jsonl`);

export const encodeHeader = (header: SegmentHeader): string => `${JSON.stringify(header)}\n`;

/** Whole lines within the first `bytes` of the file, which is open only while a piece of it is read. */
async function* linesIn(path: string, bytes: number, chunkBytes: number): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0);
  for (let at = 0; at < bytes; ) {
    const piece = await readPiece(path, at, Math.min(chunkBytes, bytes - at));
    if (piece.length === 0) return;
    at += piece.length;
    const block = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let from = 0;
    for (let end = block.indexOf(10); end >= 0; end = block.indexOf(10, from)) {
      yield block.toString("utf8", from, end);
      from = end + 1;
    }
    rest = block.subarray(from);
  }
}

/** Nothing when the file is gone: it was too old, and was removed meanwhile. */
async function readPiece(path: string, at: number, length: number): Promise<Buffer> {
  try {
    await using file = await open(path, "r");
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, at);
    return buffer.subarray(0, bytesRead);
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return Buffer.alloc(0);
    throw err;
  }
}

/** In order. */
export async function* eventsIn(
  folder: string,
  { first, bytes }: Pick<Segment, "first" | "bytes">,
  chunkBytes = 64 * 1024,
): AsyncGenerator<LogEvent> {
  for await (const line of linesIn(segmentFile(folder, first), bytes, chunkBytes)) {
    const event = decodeEvent(line);
    if (event) yield event;
  }
}

/** What a folder's segments hold, oldest first; those in `known` are taken as they are. */
export async function scanSegments(
  folder: string,
  known: readonly Segment[],
): Promise<{ readonly header: SegmentHeader | undefined; readonly segments: Segment[] }> {
  const names = (await readdir(folder)).filter((name) => /^\d{16}\.jsonl$/.test(name)).sort();
  let header: SegmentHeader | undefined;
  const segments: Segment[] = [];
  for (const name of names) {
    const first = Number(name.slice(0, 16));
    header ??= await readHeader(join(folder, name));
    const found = known.find((segment) => segment.first === first) ?? (await scan(folder, first));
    if (found) segments.push(found);
  }
  return { header, segments };
}

async function scan(folder: string, first: number): Promise<Segment | undefined> {
  const { size } = await stat(segmentFile(folder, first));
  let segment: Segment | undefined;
  for await (const { n, time, ingested } of eventsIn(folder, { first, bytes: size }))
    segment = {
      first,
      last: n,
      bytes: size,
      firstTime: segment?.firstTime ?? time,
      lastTime: time,
      lastIngested: ingested,
    };
  return segment;
}

async function readHeader(path: string): Promise<SegmentHeader | undefined> {
  for await (const line of linesIn(path, 4096, 4096)) {
    try {
      const { stream, created } = Object(JSON.parse(line)) as Record<string, unknown>;
      if (typeof stream === "string" && Number.isSafeInteger(created)) return { stream, created: Number(created) };
    } catch {
      // torn
    }
    return undefined;
  }
  return undefined;
}
