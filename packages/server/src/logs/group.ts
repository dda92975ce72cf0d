import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../lib/atomic-file.ts";
import { FOLDER, folderOf } from "./names.ts";
import { scanSegments } from "./segment.ts";
import { LogStream, type StreamHooks } from "./stream.ts";
import { StreamIndex, type StreamRecord } from "./stream-index.ts";

export type GroupHooks = Pick<StreamHooks, "now"> & {
  /** Resolves when no folder is being removed any more that had to go before this call. */
  readonly cleared: () => Promise<void>;
  readonly written: (group: LogGroup, ...written: Parameters<StreamHooks["written"]>) => void;
};

/** One group of one account: a folder with its name, an index, and a folder a stream. */
export class LogGroup {
  readonly accountId: string;
  readonly name: string;
  readonly createdAt: number;
  readonly folder: string;
  readonly streams = new Map<string, LogStream>();
  readonly #index: StreamIndex;
  readonly #hooks: GroupHooks;
  readonly #streamHooks: StreamHooks;
  /** Its folder is there. */
  #made: Promise<void> | undefined;
  #indexing: Promise<void> = Promise.resolve();

  constructor(
    at: { readonly accountId: string; readonly name: string; readonly createdAt: number; readonly folder: string },
    hooks: GroupHooks,
  ) {
    this.accountId = at.accountId;
    this.name = at.name;
    this.createdAt = at.createdAt;
    this.folder = at.folder;
    this.#hooks = hooks;
    this.#index = new StreamIndex(join(this.folder, "index.jsonl"));
    this.#streamHooks = {
      now: hooks.now,
      prepare: async (stream) => {
        await hooks.cleared(); // one of this name may have been here before
        this.#made ??= this.#make();
        await this.#made.catch((err: unknown) => {
          this.#made = undefined; // the disk may have room the next time
          throw err;
        });
        await this.#record(openRecord(stream));
      },
      rolled: (stream) => this.#record({ ...closedRecord(stream), open: true }),
      written: (...written) => this.#hooks.written(this, ...written),
    };
  }

  /** What an earlier server left in the folder; undefined when it is no group's. */
  static async open(accountId: string, folder: string, hooks: GroupHooks): Promise<LogGroup | undefined> {
    const facts = await readFacts(join(folder, "group.json"));
    if (!facts) return undefined;
    const group = new LogGroup({ accountId, folder, ...facts }, hooks);
    group.#made = Promise.resolve();
    await group.#load();
    return group;
  }

  /** The stream of this name, made if there is none: it exists on disk with its first line. */
  stream(name: string): LogStream {
    const known = this.streams.get(name);
    if (known) return known;
    const key = folderOf(name);
    const at = { name, key, folder: join(this.folder, key), createdAt: this.#hooks.now(), segments: [] };
    const stream = new LogStream(at, this.#streamHooks);
    this.streams.set(name, stream);
    return stream;
  }

  get bytes(): number {
    let bytes = 0;
    for (const stream of this.streams.values()) bytes += stream.bytes;
    return bytes;
  }

  /** The index is told what came of streams that are not written to any more: the next start need not look. */
  async settle(): Promise<void> {
    for (const stream of this.streams.values()) {
      if (!stream.prepared || stream.busy) continue;
      stream.settle();
      await this.#record(closedRecord(stream));
    }
  }

  /** All of it goes. The folder's name can be used again when this resolves. */
  async remove(): Promise<void> {
    await Promise.all([...this.streams.values()].map((stream) => stream.remove()));
    await rm(this.folder, { recursive: true, force: true });
  }

  async #make(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await writeFileAtomic(
      join(this.folder, "group.json"),
      JSON.stringify({ name: this.name, createdAt: this.createdAt }),
    );
  }

  async #load(): Promise<void> {
    const records = await this.#index.load();
    for (const key of (await readdir(this.folder)).filter((name) => FOLDER.test(name)).sort()) {
      const record = records.get(key);
      const folder = join(this.folder, key);
      const found = record && !record.open ? undefined : await scanSegments(folder, record?.segments ?? []);
      const segments = found?.segments ?? record?.segments ?? [];
      const name = record?.name ?? found?.header?.stream;
      if (name === undefined || folderOf(name) !== key || segments.length === 0) {
        await rm(folder, { recursive: true, force: true }); // a crash before its first line was whole
        continue;
      }
      const createdAt = record?.created ?? found?.header?.created ?? 0;
      this.streams.set(name, new LogStream({ name, key, folder, createdAt, segments }, this.#streamHooks));
    }
    await this.#index.rewrite(this.#records()).catch(() => {}); // a full disk: what is there says the same
  }

  #record(record: StreamRecord): Promise<void> {
    const mine = this.#indexing.then(() => this.#index.write(record, () => this.#records()));
    this.#indexing = mine.catch(() => {});
    return mine;
  }

  #records(): StreamRecord[] {
    return [...this.streams.values()].map((stream) =>
      stream.prepared || stream.busy ? openRecord(stream) : closedRecord(stream),
    );
  }
}

function closedRecord({ key, name, createdAt, segments }: LogStream): StreamRecord {
  return { key, name, created: createdAt, open: false, segments };
}

/** The newest segment is left out: it grows. */
function openRecord(stream: LogStream): StreamRecord {
  return { ...closedRecord(stream), open: true, segments: stream.segments.slice(0, -1) };
}

async function readFacts(path: string): Promise<{ readonly name: string; readonly createdAt: number } | undefined> {
  try {
    const { name, createdAt } = Object(JSON.parse(await readFile(path, "utf8"))) as Record<string, unknown>;
    if (typeof name === "string" && typeof createdAt === "number") return { name, createdAt };
  } catch {
    // made by a crash, or by nobody of ours
  }
  return undefined;
}
