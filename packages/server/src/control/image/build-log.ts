import { closeSync, openSync, writeSync } from "node:fs";
import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { abortable } from "../../lib/abortable.ts";
import { errnoOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";

const MAX_BYTES = 16 << 20;
/** Kept free for the last words, which say how the build ended. */
const RESERVED_BYTES = 64 << 10;
const READ_BYTES = 64 << 10;

/** The logs of image builds, a bounded file each. */
export class BuildLogs {
  readonly #folder: string;
  readonly #log: Log;
  readonly #open = new Map<string, BuildLog>();

  constructor(folder: string, log: Log) {
    this.#folder = folder;
    this.#log = log;
  }

  /**
   * Begins the log of a build, which its caller closes.
   * @param copy gets all that is written, too
   */
  async begin(buildId: string, copy: (text: string) => void = () => {}): Promise<BuildLog> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const log = new BuildLog(this.#path(buildId), this.#log, copy, () => this.#open.delete(buildId));
    this.#open.set(buildId, log);
    return log;
  }

  /** Of a build that has ended. Removing what is not there succeeds. */
  async remove(buildId: string): Promise<void> {
    await rm(this.#path(buildId), { force: true });
  }

  /** The text so far; with `follow` also what comes, until the build ends. Nothing for a build without a log. */
  async *read(buildId: string, options: { readonly follow: boolean }, signal: AbortSignal): AsyncGenerator<string> {
    let file: FileHandle;
    try {
      file = await open(this.#path(buildId), "r");
    } catch (err) {
      if (errnoOf(err) === "ENOENT") return;
      throw err;
    }
    await using _ = file;
    const decoder = new TextDecoder();
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const more = this.#open.get(buildId)?.grown();
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES);
      if (bytesRead > 0) yield decoder.decode(buffer.subarray(0, bytesRead), { stream: true });
      else if (options.follow && more) await abortable(more, signal);
      else break;
    }
    const rest = decoder.decode();
    if (rest) yield rest;
  }

  #path(buildId: string): string {
    return join(this.#folder, `${buildId}.log`);
  }
}

/** Appends at once, so that readers see what was written; a full disk costs log lines, not the build. */
export class BuildLog {
  readonly #fd: number;
  readonly #log: Log;
  readonly #copy: (text: string) => void;
  readonly #closed: () => void;
  #room = MAX_BYTES - RESERVED_BYTES;
  #reserve = RESERVED_BYTES;
  #growth = Promise.withResolvers<void>();

  constructor(path: string, log: Log, copy: (text: string) => void, closed: () => void) {
    this.#fd = openSync(path, "w", 0o600);
    this.#log = log;
    this.#copy = copy;
    this.#closed = closed;
  }

  write(text: string): void {
    if (this.#room < 0) return;
    this.#room -= Buffer.byteLength(text);
    this.#append(this.#room < 0 ? "[the log is full: what follows is left out]\n" : text);
  }

  /** How it ended: written even when the log is full. */
  close(lastWords: string): void {
    const text = Buffer.from(`${lastWords}\n`).subarray(0, this.#reserve);
    this.#reserve = 0;
    this.#append(text);
    closeSync(this.#fd);
    this.#closed();
    this.#growth.resolve();
  }

  /** Resolves at the next write, or the end. */
  grown(): Promise<void> {
    return this.#growth.promise;
  }

  #append(data: string | Uint8Array): void {
    this.#copy(typeof data === "string" ? data : Buffer.from(data).toString("utf8"));
    try {
      if (typeof data === "string") writeSync(this.#fd, data);
      else writeSync(this.#fd, data);
    } catch (err) {
      this.#log.warn({ err }, "build log line lost");
    }
    this.#growth.resolve();
    this.#growth = Promise.withResolvers();
  }
}
