import { appendFile, readFile } from "node:fs/promises";
import { writeFileAtomic } from "../lib/atomic-file.ts";
import { errnoOf } from "../lib/errors.ts";
import { FOLDER } from "./names.ts";
import type { Segment } from "./segment.ts";

/** What the index says of one stream. */
export interface StreamRecord {
  readonly key: string;
  readonly name: string;
  readonly created: number;
  /** It has been written to since: segments that are not listed here must be looked at. */
  readonly open: boolean;
  readonly segments: readonly Segment[];
}

/** Lines beyond two a stream and these: then the index is written anew. */
const SLACK_LINES = 256;

/**
 * The streams of a group in one file of JSON lines, the last line about a stream counts: so a group is listed without a
 * look at its streams' folders. It is never needed: the folders say the same, more slowly.
 */
export class StreamIndex {
  readonly #path: string;
  #lines = 0;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<Map<string, StreamRecord>> {
    const records = new Map<string, StreamRecord>();
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (err) {
      if (errnoOf(err) === "ENOENT") return records;
      throw err;
    }
    for (const line of text.split("\n")) {
      this.#lines++;
      const record = parseRecord(line);
      if (record) records.set(record.key, record);
    }
    return records;
  }

  /** @param current all streams that there are, for when the file has grown too long */
  async write(record: StreamRecord, current: () => readonly StreamRecord[]): Promise<void> {
    if (this.#lines > 2 * current().length + SLACK_LINES) return await this.rewrite(current());
    this.#lines++;
    // A crash can have torn the last line: an empty one is no harm.
    await appendFile(this.#path, `\n${encodeRecord(record)}\n`, { mode: 0o600 });
  }

  async rewrite(records: readonly StreamRecord[]): Promise<void> {
    await writeFileAtomic(this.#path, records.map((record) => `${encodeRecord(record)}\n`).join(""));
    this.#lines = records.length;
  }
}

function encodeRecord({ key, name, created, open, segments }: StreamRecord): string {
  const sizes = segments.map((s) => [s.first, s.last, s.bytes, s.firstTime, s.lastTime, s.lastIngested]);
  return JSON.stringify({ key, name, created, open, segments: sizes });
}

function parseRecord(line: string): StreamRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { key, name, created, open, segments } = Object(value) as Record<string, unknown>;
  if (typeof key !== "string" || !FOLDER.test(key) || typeof name !== "string" || !Number.isSafeInteger(created))
    return undefined;
  if (!Array.isArray(segments)) return undefined;
  const read = segments.map(segmentOf);
  if (!read.every((segment) => segment !== undefined)) return undefined;
  return { key, name, created: Number(created), open: open !== false, segments: read };
}

function segmentOf(value: unknown): Segment | undefined {
  if (!Array.isArray(value) || value.length !== 6 || !value.every((n) => Number.isSafeInteger(n))) return undefined;
  const [first, last, bytes, firstTime, lastTime, lastIngested] = value.map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return { first, last, bytes, firstTime, lastTime, lastIngested };
}
