import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { KeyedMutex } from "../lib/mutex.ts";
import type { ChecksumAlgorithm, Checksums } from "./checksum.ts";
import { isBucketName } from "./names.ts";
import { Bucket, type Precondition } from "./store/bucket.ts";
import { type BucketFacts, readBucketFacts } from "./store/bucket-facts.ts";
import type { ObjectMeta } from "./store/object-file.ts";
import { type Incoming, type Received, Staging } from "./store/staging.ts";
import { StoreError } from "./store/store-error.ts";
import { Uploads } from "./store/uploads.ts";

export interface FileStoreOptions {
  readonly maxObjectBytes: number;
  /** Free space on the file system that is never used, in bytes. */
  readonly reservedBytes: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is kept with an object as its sender said it. */
export type ObjectLabels = Pick<ObjectMeta, "headers" | "userMetadata">;

export interface NewObject extends Incoming, ObjectLabels {
  readonly key: string;
  /** Sees what came before anything is kept. Returns the checksums to keep; throws to refuse the object. */
  readonly accept: (received: Received) => Checksums;
  readonly precondition?: Precondition;
}

/** Multipart uploads older than this are removed at start. */
const UPLOAD_LIFETIME_MS = 7 * 24 * 3600 * 1000;

/**
 * The embedded object store: `buckets/<name>/` and `incoming/` under its folder. One process at a time owns the folder.
 * What a method has acknowledged is on the disk.
 */
export class FileStore {
  readonly uploads: Uploads;
  readonly #folder: string;
  readonly #staging: Staging;
  readonly #options: FileStoreOptions;
  readonly #buckets = new Map<string, Bucket>();
  readonly #names = new KeyedMutex<string>();

  private constructor(folder: string, staging: Staging, options: FileStoreOptions) {
    this.#folder = folder;
    this.#staging = staging;
    this.#options = options;
    this.uploads = new Uploads(staging, options.clock);
  }

  /** Finds the buckets, and removes what an earlier process left half done and uploads that nobody completed. */
  static async open(folder: string, options: FileStoreOptions): Promise<FileStore> {
    await mkdir(join(folder, "buckets"), { recursive: true, mode: 0o700 });
    const store = new FileStore(folder, await Staging.open(join(folder, "incoming"), options), options);
    for (const name of await readdir(join(folder, "buckets"))) {
      const home = join(folder, "buckets", name);
      const facts = await readBucketFacts(join(home, "bucket.json"));
      store.#buckets.set(name, new Bucket(home, facts, options.log));
    }
    await store.removeOldUploads();
    return store;
  }

  /** @throws StoreError invalid_bucket_name, bucket_owned, bucket_taken */
  async createBucket(name: string, accountId: string): Promise<BucketFacts> {
    if (!isBucketName(name))
      throw new StoreError("invalid_bucket_name", `${JSON.stringify(name)} is not a valid bucket name.`);
    return await this.#names.run(name, async () => {
      const there = this.#buckets.get(name);
      if (there?.facts.accountId === accountId)
        throw new StoreError("bucket_owned", `Bucket ${name} is yours already.`);
      if (there) throw new StoreError("bucket_taken", `The name ${name} is taken.`);
      const facts: BucketFacts = { name, accountId, createdAt: this.#options.clock.now() };
      const bucket = await Bucket.create(join(this.#folder, "buckets", name), facts, this.#staging, this.#options.log);
      this.#buckets.set(name, bucket);
      return facts;
    });
  }

  /** @throws StoreError no_such_bucket, denied, bucket_not_empty */
  async deleteBucket(name: string, accountId: string): Promise<void> {
    await this.#names.run(name, async () => {
      await this.bucket(name, accountId).remove(this.#staging);
      this.#buckets.delete(name);
    });
  }

  /** The account's buckets, sorted by name. */
  listBuckets(accountId: string): BucketFacts[] {
    return [...this.#buckets.values()]
      .map((bucket) => bucket.facts)
      .filter((facts) => facts.accountId === accountId)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws StoreError no_such_bucket, denied (another account's) */
  bucket(name: string, accountId: string): Bucket {
    const bucket = this.#buckets.get(name);
    if (!bucket) throw new StoreError("no_such_bucket", `There is no bucket ${JSON.stringify(name)}.`);
    if (bucket.facts.accountId !== accountId)
      throw new StoreError("denied", `Bucket ${name} belongs to another account.`);
    return bucket;
  }

  /** Stores an object, or nothing at all. @throws StoreError, and whatever body, accept and precondition throw */
  async put(bucket: Bucket, object: NewObject): Promise<ObjectMeta> {
    // Asked before the body so that a refused object is not received first; asked again when it is complete.
    await bucket.require(object.key, object.precondition ?? (() => {}));
    const digest = new Set<ChecksumAlgorithm>([...object.digest, "MD5"]);
    const staged = await this.#staging.receive({ body: object.body, size: object.size, digest }, (received) => ({
      key: object.key,
      size: received.size,
      etag: received.digests.get("MD5")!.toString("hex"),
      lastModified: this.#options.clock.now(),
      headers: object.headers,
      userMetadata: object.userMetadata,
      checksums: object.accept(received),
      checksumType: "FULL_OBJECT",
    }));
    return await bucket.commit(staged, object.precondition);
  }

  /** For a timer too: open() does it once. */
  async removeOldUploads(): Promise<void> {
    const before = this.#options.clock.now() - UPLOAD_LIFETIME_MS;
    for (const bucket of this.#buckets.values()) await this.uploads.removeOlderThan(bucket, before);
  }
}
