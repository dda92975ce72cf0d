import { createHash } from "node:crypto";
import { mkdir, opendir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder, writeFileAtomic } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import { isObjectKey, MAX_KEY_BYTES } from "../names.ts";
import type { BucketFacts } from "./bucket-facts.ts";
import { KeyIndex, type ListedObject, type ListPage, type ListQuery } from "./key-index.ts";
import { type ObjectMeta, type OpenObject, openObject, readObjectMeta } from "./object-file.ts";
import type { Staged, Staging } from "./staging.ts";
import { StoreError } from "./store-error.ts";

/** Asked with what the key holds now, at the moment of the change; throws to refuse it. */
export type Precondition = (current: ObjectMeta | undefined) => void;

/** How many object files are looked into at once while the index is made. */
const SCAN_WIDTH = 32;

/**
 * One bucket's folder: `bucket.json`, `objects/<sha256 of the key>` and `uploads/`. Names on disk are hashes, so that no
 * key can mean a path and each has one length. What the folder holds is the only truth; the sorted index is made from it
 * when the bucket is first listed, since nothing else needs it, and then kept up to date in memory.
 */
export class Bucket {
  readonly facts: BucketFacts;
  readonly folder: string;
  readonly #log: Log;
  readonly #locks = new KeyedMutex<string>();
  #index: KeyIndex | undefined;
  #loading: Promise<KeyIndex> | undefined;
  /** Changes since the scan began, to be laid over what it finds. */
  #meanwhile = new Map<string, ObjectMeta | undefined>();
  #changes = 0;
  #removing: Promise<void> | undefined;
  #removed = false;

  constructor(folder: string, facts: BucketFacts, log: Log) {
    this.folder = folder;
    this.facts = facts;
    this.#log = log;
  }

  /** Makes the folder whole elsewhere, then gives it its name: a bucket is there or not. */
  static async create(folder: string, facts: BucketFacts, staging: Staging, log: Log): Promise<Bucket> {
    const temporary = staging.newPath();
    try {
      await mkdir(join(temporary, "objects"), { recursive: true, mode: 0o700 });
      await mkdir(join(temporary, "uploads"), { mode: 0o700 });
      await writeFileAtomic(join(temporary, "bucket.json"), JSON.stringify(facts));
      await rename(temporary, folder);
    } catch (err) {
      await rm(temporary, { recursive: true, force: true });
      if (errnoOf(err) === "ENOSPC") throw new StoreError("no_space", "The disk is full.", { cause: err });
      throw err;
    }
    await syncFolder(join(folder, ".."));
    return new Bucket(folder, facts, log);
  }

  /** The caller reads or closes it. @throws StoreError no_such_key, invalid_key */
  async open(key: string): Promise<OpenObject> {
    const object = await openObject(this.#path(key));
    if (!object) throw noSuchKey(key);
    return object;
  }

  /** @throws StoreError no_such_key, invalid_key */
  async head(key: string): Promise<ObjectMeta> {
    const meta = await readObjectMeta(this.#path(key));
    if (!meta) throw noSuchKey(key);
    return meta;
  }

  /**
   * The staged object takes its key, in place of what was there; durable when this returns. Readers of the old object
   * go on undisturbed. When it throws, the staged file is gone.
   */
  async commit(staged: Staged, precondition?: Precondition): Promise<ObjectMeta> {
    try {
      const path = this.#path(staged.meta.key);
      return await this.#change(async () => {
        await this.#locks.run(path, async () => {
          if (precondition) precondition(await readObjectMeta(path));
          await rename(staged.path, path);
          this.#note(staged.meta.key, staged.meta);
        });
        await syncFolder(join(this.folder, "objects"));
        return staged.meta;
      });
    } catch (err) {
      await staged.discard();
      throw err;
    }
  }

  /** Checks, before a body is read, what `commit` will check again. */
  async require(key: string, precondition: Precondition): Promise<void> {
    precondition(await readObjectMeta(this.#path(key)));
  }

  /** Those that are not there are gone already. Durable when this returns. */
  async delete(keys: Iterable<string>): Promise<void> {
    await this.#change(async () => {
      for (const key of keys) {
        const path = this.#path(key);
        await this.#locks.run(path, async () => {
          await rm(path, { force: true });
          this.#note(key, undefined);
        });
      }
      await syncFolder(join(this.folder, "objects"));
    });
  }

  async list(query: ListQuery): Promise<ListPage> {
    return (this.#index ?? (await this.#load())).list(query);
  }

  /** @throws StoreError bucket_not_empty, also while an object is being written */
  async remove(staging: Staging): Promise<void> {
    while (this.#removing) await this.#removing.catch(() => {});
    if (this.#removed) throw noSuchBucket(this.facts.name);
    if (this.#changes > 0) throw notEmpty(this.facts.name);
    this.#removing = this.#removeIfEmpty(staging);
    try {
      await this.#removing;
    } finally {
      this.#removing = undefined;
    }
  }

  /** Runs a change of the folder, which cannot go away meanwhile. @throws StoreError no_such_bucket */
  async #change<T>(work: () => Promise<T>): Promise<T> {
    while (this.#removing) await this.#removing.catch(() => {});
    if (this.#removed) throw noSuchBucket(this.facts.name);
    this.#changes++;
    try {
      return await work();
    } finally {
      this.#changes--;
    }
  }

  async #removeIfEmpty(staging: Staging): Promise<void> {
    if ((await readdir(join(this.folder, "objects"))).length > 0) throw notEmpty(this.facts.name);
    await staging.removeFolder(this.folder, join(this.folder, ".."));
    this.#removed = true;
  }

  #path(key: string): string {
    if (!isObjectKey(key))
      throw new StoreError("invalid_key", `A key is 1 to ${MAX_KEY_BYTES} bytes of UTF-8 without NUL.`);
    return join(this.folder, "objects", createHash("sha256").update(key).digest("hex"));
  }

  #note(key: string, meta: ObjectMeta | undefined): void {
    if (this.#index) apply(this.#index, key, meta);
    else if (this.#loading) this.#meanwhile.set(key, meta);
  }

  async #load(): Promise<KeyIndex> {
    this.#loading ??= this.#scan();
    try {
      return await this.#loading;
    } finally {
      this.#loading = undefined;
    }
  }

  async #scan(): Promise<KeyIndex> {
    const found: ListedObject[] = [];
    const folder = await opendir(join(this.folder, "objects"), { bufferSize: 1024 });
    const entries = folder[Symbol.asyncIterator]();
    const work = async (): Promise<void> => {
      for (let next = await entries.next(); !next.done; next = await entries.next()) {
        const path = join(this.folder, "objects", next.value.name);
        try {
          const meta = await readObjectMeta(path);
          if (meta) found.push(listed(meta));
        } catch (err) {
          this.#log.error({ err, path }, "object file is damaged, and not listed");
        }
      }
    };
    await Promise.all(Array.from({ length: SCAN_WIDTH }, work));
    const index = new KeyIndex(found);
    for (const [key, meta] of this.#meanwhile) apply(index, key, meta);
    this.#meanwhile = new Map();
    this.#index = index;
    return index;
  }
}

const listed = ({ key, size, etag, lastModified }: ObjectMeta): ListedObject => ({ key, size, etag, lastModified });

function apply(index: KeyIndex, key: string, meta: ObjectMeta | undefined): void {
  if (meta) index.put(listed(meta));
  else index.delete(key);
}

const noSuchKey = (key: string): StoreError =>
  new StoreError("no_such_key", `There is no object ${JSON.stringify(key)}.`);
const noSuchBucket = (name: string): StoreError => new StoreError("no_such_bucket", `There is no bucket ${name}.`);
const notEmpty = (name: string): StoreError => new StoreError("bucket_not_empty", `Bucket ${name} is not empty.`);
