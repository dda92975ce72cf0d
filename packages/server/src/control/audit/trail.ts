import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { AuditEvent } from "@torpor/protocol";
import { syncFolder } from "../../lib/atomic-file.ts";
import { TorporError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { fileName, numbersIn } from "./trail-files.ts";

export interface AuditTrailOptions {
  readonly folder: string;
  /** A file that would become larger is followed by another one. */
  readonly maxFileBytes: number;
  /** Older ones are deleted. */
  readonly maxFiles: number;
  readonly log: Log;
}

/** How far the trail reaches: all before is on the disk and never changes. */
export interface TrailEnd {
  readonly file: number;
  readonly bytes: number;
}

const RETRY_AFTER_SECONDS = 30;
const NEWLINE = "\n".charCodeAt(0);

interface Waiting {
  readonly line: Buffer;
  readonly resolve: () => void;
  readonly reject: (err: unknown) => void;
}

/**
 * Who changed what: lines of JSON in numbered files, only ever appended to. A line is on the disk when `append` returns;
 * lines that wait while others are written are written and synchronised together. A line that cannot be written is kept
 * and comes first as soon as there is room, and until then `ready` refuses: nothing is begun that could not be recorded.
 */
export class AuditTrail {
  readonly #options: AuditTrailOptions;
  #end: TrailEnd;
  #queue: Waiting[] = [];
  /** Of calls that were carried out. */
  #owed: Buffer[] = [];
  #writing: Promise<void> | undefined;
  #changed = Promise.withResolvers<void>();

  private constructor(options: AuditTrailOptions, end: TrailEnd) {
    this.#options = options;
    this.#end = end;
  }

  /** Goes on where an earlier process stopped, perhaps in the middle of a line. */
  static async open(options: AuditTrailOptions): Promise<AuditTrail> {
    const { folder } = options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = (await numbersIn(folder)).at(-1) ?? 1;
    const trail = new AuditTrail(options, { file, bytes: 0 });
    await using handle = await trail.#openFile();
    const { size } = await handle.stat();
    const torn = size > 0 && (await handle.read(Buffer.alloc(1), 0, 1, size - 1)).buffer[0] !== NEWLINE;
    if (torn) await handle.write("\n");
    await syncFolder(folder);
    trail.#end = { file, bytes: torn ? size + 1 : size };
    return trail;
  }

  get folder(): string {
    return this.#options.folder;
  }

  get end(): TrailEnd {
    return this.#end;
  }

  /** Resolves when there is more than there was when it was asked. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  /** Before something is begun that will have to be recorded. @throws TorporError `unavailable` while that cannot be */
  async ready(): Promise<void> {
    if (this.#owed.length > 0) await this.#enqueue(Buffer.alloc(0));
  }

  /** Resolves when the line is on the disk. @throws TorporError `unavailable`: it is not, and what it tells of has happened */
  async append(event: AuditEvent): Promise<void> {
    await this.#enqueue(Buffer.from(`${JSON.stringify(event)}\n`));
  }

  /** Waits for what is being written. */
  async close(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  #enqueue(line: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#queue.push({ line, resolve, reject });
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
    return promise;
  }

  /** Never rejects. */
  async #writeAll(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        await this.#write(Buffer.concat([...this.#owed, ...batch.map(({ line }) => line)]));
        this.#owed = [];
        for (const { resolve } of batch) resolve();
      } catch (err) {
        this.#owed.push(...batch.map(({ line }) => line).filter((line) => line.length > 0));
        this.#options.log.error({ err, folder: this.folder, owed: this.#owed.length }, "audit trail not written");
        for (const { reject } of batch) reject(unavailable(err));
      }
    }
  }

  async #write(lines: Buffer): Promise<void> {
    if (this.#end.bytes > 0 && this.#end.bytes + lines.length > this.#options.maxFileBytes) await this.#nextFile();
    await using handle = await this.#openFile();
    try {
      for (let at = 0; at < lines.length; ) at += (await handle.write(lines, at)).bytesWritten;
      await handle.datasync();
    } catch (err) {
      // What may be there of it is written again: a part of a line must not stand before it.
      await handle.truncate(this.#end.bytes).catch(() => {});
      throw err;
    }
    this.#moveTo({ file: this.#end.file, bytes: this.#end.bytes + lines.length });
  }

  async #nextFile(): Promise<void> {
    const { folder, maxFiles } = this.#options;
    const file = this.#end.file + 1;
    await using _created = await open(join(folder, fileName(file)), "a", 0o600);
    await syncFolder(folder);
    this.#moveTo({ file, bytes: 0 });
    for (const old of (await numbersIn(folder)).slice(0, -maxFiles))
      await rm(join(folder, fileName(old)), { force: true });
  }

  async #openFile(): Promise<FileHandle> {
    return await open(join(this.folder, fileName(this.#end.file)), "a+", 0o600);
  }

  #moveTo(end: TrailEnd): void {
    this.#end = end;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Where the trail is does not concern those who call. */
const unavailable = (err: unknown): TorporError =>
  new TorporError(
    "unavailable",
    "The audit trail cannot be written, and nothing is changed before it can. Look at what has become of your last call before you try again.",
    { cause: err, retryAfterSeconds: RETRY_AFTER_SECONDS },
  );
