import { EventEmitter, once } from "node:events";
import { createReadStream } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { createInterface } from "node:readline";
import { errnoOf } from "../../lib/errors.ts";
import type { LogLine } from "../host-client.ts";

/** Two files of this size at most a microvm: the newest lines are what is asked for. */
const MAX_BYTES = 4 << 20;

interface StoredLine extends LogLine {
  readonly seq: number;
}

/** What one workload wrote: JSON lines in a file, bounded, read by anyone while it is written. */
export class WorkloadLog {
  readonly #path: string;
  readonly #events = new EventEmitter().setMaxListeners(0);
  #file: FileHandle | undefined;
  #bytes = 0;
  #lastSeq = 0;
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
  append(line: StoredLine): Promise<void> {
    this.#tail = this.#tail.then(async () => {
      if (line.seq <= this.#lastSeq) return;
      this.#lastSeq = line.seq;
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
    });
    return this.#tail;
  }

  /** Oldest first; with `follow` on to what comes until the signal or the end of the microvm. */
  async *lines(follow: boolean, signal: AbortSignal): AsyncGenerator<LogLine> {
    const fresh: StoredLine[] = [];
    const keep = (line: StoredLine): void => {
      fresh.push(line);
    };
    this.#events.on("line", keep);
    try {
      let last = 0;
      for await (const line of this.#stored()) {
        if (signal.aborted) return;
        last = line.seq;
        yield { time: line.time, stream: line.stream, text: line.text };
      }
      while (follow && !signal.aborted) {
        const line = fresh.shift();
        if (!line) {
          if (this.#closed) return;
          await Promise.race([once(this.#events, "line", { signal }), once(this.#events, "end", { signal })]).catch(
            () => {},
          );
        } else if (line.seq > last) yield { time: line.time, stream: line.stream, text: line.text };
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
    this.#events.emit("end");
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

  async *#stored(): AsyncGenerator<StoredLine> {
    for (const path of [`${this.#path}.1`, this.#path]) {
      try {
        await stat(path);
      } catch (err) {
        if (errnoOf(err) === "ENOENT") continue;
        throw err;
      }
      for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
        const line = parseLine(text);
        if (line) yield line;
      }
    }
  }
}

/** Removes what was written there; nobody writes any more. Removing what is not there succeeds. */
export async function removeWorkloadLog(path: string): Promise<void> {
  for (const file of [path, `${path}.1`]) await rm(file, { force: true });
}

/** Undefined for the torn last line that a crash can leave. */
function parseLine(text: string): StoredLine | undefined {
  try {
    return JSON.parse(text) as StoredLine;
  } catch {
    return undefined;
  }
}
