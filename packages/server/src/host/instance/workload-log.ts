import { EventEmitter, once } from "node:events";
import { createReadStream } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { createInterface } from "node:readline";
import { errnoOf } from "../../lib/errors.ts";
import type { LogLine } from "../host-client.ts";

/** Two files of this size at most a microvm: the newest lines are what is asked for. */
const MAX_BYTES = 4 << 20;

/** Characters that wait for a slow reader, each line counted with some; with more, it is read from the files again. */
const MOST_WAITING = 512 * 1024;
const OVERHEAD = 256;

/** A line as the agent numbers it: the same again when its workload was put back to an earlier moment. */
export type AgentLine = Omit<LogLine, "position"> & { readonly seq: number };
interface StoredLine extends AgentLine {
  readonly position: number;
}

/** What one workload wrote: JSON lines in a file, bounded, read by anyone while it is written. */
export class WorkloadLog {
  readonly #path: string;
  readonly #events = new EventEmitter().setMaxListeners(0);
  #file: FileHandle | undefined;
  #bytes = 0;
  #lastSeq = 0;
  /** Of the newest line in the files; undefined before they were looked at. */
  #lastPosition: number | undefined;
  #tail: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Sequence number of the newest line that is kept; 0 when there is none. */
  async lastSeq(): Promise<number> {
    if (this.#lastSeq === 0) for await (const line of this.#stored()) this.#lastSeq = line.seq;
    return this.#lastSeq;
  }

  /** Lines up to this number belong to the time before the microvm. */
  skipTo(seq: number): void {
    this.#lastSeq = Math.max(this.#lastSeq, seq);
  }

  /** The workload is again where it was at this line: what it writes from there on counts, though it had been further. */
  rewindTo(seq: number): void {
    this.#lastSeq = seq;
  }

  /** In order. A full disk loses lines, never the microvm. */
  append(given: AgentLine): Promise<void> {
    this.#tail = this.#tail.then(async () => {
      if (given.seq <= this.#lastSeq) return;
      this.#lastSeq = given.seq;
      this.#lastPosition = (this.#lastPosition ?? (await this.#newestPosition())) + 1;
      const line: StoredLine = { ...given, position: this.#lastPosition };
      try {
        this.#file ??= await this.#open();
        const text = `${JSON.stringify(line)}\n`;
        await this.#file.appendFile(text);
        this.#bytes += text.length;
        if (this.#bytes > MAX_BYTES) await this.#rotate();
      } catch (err) {
        if (errnoOf(err) !== "ENOSPC") throw err;
      }
      this.#events.emit("line", line);
      this.#events.emit("change");
    });
    return this.#tail;
  }

  /** Oldest first, behind a position; with `follow` on to what comes until the signal or the end of the microvm. */
  async *lines(
    { follow, after = 0 }: { readonly follow: boolean; readonly after?: number },
    signal: AbortSignal,
  ): AsyncGenerator<LogLine> {
    const fresh: StoredLine[] = [];
    let waiting = 0;
    let behind = true;
    const keep = (line: StoredLine): void => {
      fresh.push(line);
      waiting += line.text.length + OVERHEAD;
      if (waiting <= MOST_WAITING) return;
      behind = true;
      waiting = 0;
      fresh.length = 0;
    };
    this.#events.on("line", keep);
    try {
      let last = after;
      while (!signal.aborted) {
        if (behind) {
          behind = false;
          for await (const line of this.#stored()) {
            if (signal.aborted) return;
            if (line.position <= last) continue;
            if (last > 0 && line.position > last + 1) yield lost(line, last);
            last = line.position;
            yield shown(line);
          }
          if (!follow) return;
          continue; // it may be behind again
        }
        const line = fresh.shift();
        if (line) {
          waiting -= line.text.length + OVERHEAD;
          if (line.position > last) yield shown(line);
          last = Math.max(last, line.position);
        } else {
          if (this.#closed) return;
          await once(this.#events, "change", { signal }).catch(() => {});
        }
      }
    } finally {
      this.#events.off("line", keep);
    }
  }

  #closed = false;
  /** Ends followers; what was written stays. */
  async close(): Promise<void> {
    await this.#tail;
    this.#closed = true;
    this.#events.emit("change");
    await this.#file?.close();
    this.#file = undefined;
  }

  async #open(): Promise<FileHandle> {
    const file = await open(this.#path, "a", 0o600);
    this.#bytes = (await file.stat()).size;
    if (this.#bytes > 0) await file.appendFile("\n"); // a crash can have torn the last line: this ends it
    return file;
  }

  async #rotate(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
    await rename(this.#path, `${this.#path}.1`);
  }

  async #newestPosition(): Promise<number> {
    let position = 0;
    for await (const line of this.#stored()) position = line.position;
    return position;
  }

  async *#stored(): AsyncGenerator<StoredLine> {
    let position = 0;
    for (const path of [`${this.#path}.1`, this.#path]) {
      try {
        await stat(path);
      } catch (err) {
        if (errnoOf(err) === "ENOENT") continue;
        throw err;
      }
      for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
        const line = parseLine(text);
        if (!line) continue;
        position = line.position ?? position + 1; // lines of earlier versions have none
        yield { ...line, position };
      }
    }
  }
}

/** Removes what was written there; nobody writes any more. Removing what is not there succeeds. */
export async function removeWorkloadLog(path: string): Promise<void> {
  for (const file of [path, `${path}.1`]) await rm(file, { force: true });
}

/** Undefined for the torn last line that a crash can leave. */
function parseLine(text: string): (AgentLine & { readonly position?: number }) | undefined {
  try {
    return JSON.parse(text) as AgentLine;
  } catch {
    return undefined;
  }
}

const shown = ({ position, time, stream, text }: StoredLine): LogLine => ({ position, time, stream, text });

/** In place of the lines between the last that was told and this one, which are in no file any more. */
const lost = ({ position, time }: StoredLine, last: number): LogLine => ({
  position: position - 1,
  time,
  stream: "stderr",
  text: `(${position - 1 - last} lines lost)`,
});
