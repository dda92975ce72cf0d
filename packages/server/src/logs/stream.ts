import { appendFile, mkdir, rm, stat } from "node:fs/promises";
import { boundedText, encodeEvent, type LogEvent, type NewLine, timeOf } from "./event.ts";
import { encodeHeader, type Segment, segmentFile } from "./segment.ts";

/** A segment that has grown so large is followed by the next one. */
export const SEGMENT_BYTES = 1 << 20;
/** The oldest go. */
export const MOST_SEGMENTS = 16;
/** Waiting to be written: more is not taken until there is room. */
const PENDING_BYTES = 1 << 20;

interface Waiting extends NewLine {
  readonly ingested: number;
}

export interface StreamHooks {
  readonly now: () => number;
  /** Before the first write: the group must be there, and its index must know that this stream changes. */
  readonly prepare: (stream: LogStream) => Promise<void>;
  /** A segment is full. */
  readonly rolled: (stream: LogStream) => Promise<void>;
  /** A write is over. `kept` is false when the disk refused it. */
  readonly written: (stream: LogStream, events: readonly LogEvent[], kept: boolean, err: unknown) => void;
}

/**
 * One stream: its segments, and what waits to be written to the newest. Lines that come while a write goes on are
 * written together after it. Whatever the disk does, a writer sees no error: lines are lost, counted, and said to be.
 */
export class LogStream {
  readonly name: string;
  readonly createdAt: number;
  readonly folder: string;
  /** Name of the folder, unique in its group. */
  readonly key: string;
  readonly #hooks: StreamHooks;
  #segments: readonly Segment[];
  #pending: Waiting[] = [];
  #pendingBytes = 0;
  #lost = 0;
  #next: number;
  #lastTime: number;
  /** The newest segment takes no more: it is full, or a write to it failed half way. */
  #sealed: boolean;
  #writing: Promise<void> | undefined;
  /** Writes and removals, one after the other. */
  #tail: Promise<void> = Promise.resolve();
  #prepared = false;
  #removed = false;

  constructor(
    at: {
      readonly name: string;
      readonly createdAt: number;
      readonly key: string;
      readonly folder: string;
      readonly segments: readonly Segment[];
    },
    hooks: StreamHooks,
  ) {
    this.name = at.name;
    this.createdAt = at.createdAt;
    this.key = at.key;
    this.folder = at.folder;
    this.#hooks = hooks;
    this.#segments = at.segments;
    const newest = this.#segments.at(-1);
    this.#next = (newest?.last ?? 0) + 1;
    this.#lastTime = newest?.lastTime ?? 0;
    // What follows a torn line must not be part of it.
    this.#sealed = true;
  }

  /** Oldest first. */
  get segments(): readonly Segment[] {
    return this.#segments;
  }

  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get firstTime(): number | undefined {
    return this.#segments[0]?.firstTime;
  }

  get lastTime(): number | undefined {
    return this.#segments.at(-1)?.lastTime;
  }

  get lastIngested(): number | undefined {
    return this.#segments.at(-1)?.lastIngested;
  }

  /** Whether something is being written, or waits to be. */
  get busy(): boolean {
    return this.#writing !== undefined;
  }

  /** Whether the index has been told that this stream changes, and not yet what came of it. */
  get prepared(): boolean {
    return this.#prepared;
  }

  /** Resolves when there is room for the next line: at once, unless the disk is slower than the writer. */
  append(line: NewLine): Promise<void> {
    if (this.#removed) return Promise.resolve();
    const text = boundedText(line.text);
    this.#pendingBytes += 2 * text.length;
    this.#pending.push({ ...line, text, ingested: this.#hooks.now() });
    this.#writing ??= this.#serial(() => this.#write());
    return this.#pendingBytes > PENDING_BYTES ? this.#writing : Promise.resolve();
  }

  /** Resolves when everything that was appended is written, or lost. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  /** The index knows all of it. */
  settle(): void {
    this.#prepared = false;
  }

  /** The oldest segment goes. */
  dropOldest(): Promise<void> {
    return this.#serial(async () => {
      const [oldest, ...younger] = this.#segments;
      if (!oldest) return;
      this.#segments = younger;
      if (younger.length === 0) this.#sealed = true;
      await rm(segmentFile(this.folder, oldest.first), { force: true });
    });
  }

  /** All of it goes; lines that come later go nowhere. */
  remove(): Promise<void> {
    this.#removed = true;
    return this.#serial(async () => {
      this.#segments = [];
      await rm(this.folder, { recursive: true, force: true });
    });
  }

  #serial(work: () => Promise<void>): Promise<void> {
    const mine = this.#tail.then(work);
    this.#tail = mine.catch(() => {});
    return mine;
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    while (this.#pending.length > 0 && !this.#removed) {
      const lines = this.#pending;
      this.#pending = [];
      this.#pendingBytes = 0;
      const now = this.#hooks.now();
      const notice = { time: now, ingested: now, text: `(${this.#lost} lines lost: they could not be written)` };
      const events = (this.#lost > 0 ? [notice, ...lines] : lines).map((line) => this.#place(line));
      try {
        await this.#put(events);
        this.#lost = 0;
        this.#hooks.written(this, events, true, undefined);
      } catch (err) {
        this.#sealed = true;
        this.#lost += lines.length;
        this.#hooks.written(this, events, false, err);
      }
    }
    this.#writing = undefined;
  }

  #place({ time, text, ingested, source }: Waiting): LogEvent {
    this.#lastTime = timeOf(time, this.#lastTime, ingested);
    return { n: this.#next++, time: this.#lastTime, ingested, text, ...(source && { source }) };
  }

  async #put(events: readonly LogEvent[]): Promise<void> {
    if (!this.#prepared) {
      await this.#hooks.prepare(this);
      this.#prepared = true;
    }
    const newest = this.#segments.at(-1);
    if (this.#sealed || !newest || newest.bytes >= SEGMENT_BYTES) await this.#begin(events);
    else await this.#extend(newest, events);
  }

  async #begin(events: readonly LogEvent[]): Promise<void> {
    const [first] = events;
    if (!first) return;
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    if (this.#segments.length > 0) await this.#hooks.rolled(this);
    const path = segmentFile(this.folder, first.n);
    const header = encodeHeader({ stream: this.name, created: this.createdAt });
    await appendFile(path, header + events.map(encodeEvent).join(""), { mode: 0o600 });
    const { size } = await stat(path);
    this.#segments = [...this.#segments, { ...spanOf(events), first: first.n, firstTime: first.time, bytes: size }];
    this.#sealed = false;
    while (this.#segments.length > MOST_SEGMENTS) {
      const oldest = this.#segments[0]!;
      this.#segments = this.#segments.slice(1);
      await rm(segmentFile(this.folder, oldest.first), { force: true });
    }
  }

  async #extend(newest: Segment, events: readonly LogEvent[]): Promise<void> {
    const text = events.map(encodeEvent).join("");
    await appendFile(segmentFile(this.folder, newest.first), text, { mode: 0o600 });
    const bytes = newest.bytes + Buffer.byteLength(text);
    this.#segments = [...this.#segments.slice(0, -1), { ...newest, ...spanOf(events), bytes }];
  }
}

function spanOf(events: readonly LogEvent[]): Pick<Segment, "last" | "lastTime" | "lastIngested"> {
  const newest = events.at(-1)!;
  return { last: newest.n, lastTime: newest.time, lastIngested: newest.ingested };
}
