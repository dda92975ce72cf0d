import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder, writeFileAtomic } from "../../lib/atomic-file.ts";
import type { Clock } from "../../lib/clock.ts";
import { errnoOf } from "../../lib/errors.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import type { ChecksumAlgorithm, Checksums } from "../checksum.ts";
import { assemble, type CompletedPart, type WholeObjectClaims } from "./assemble.ts";
import type { Bucket, Precondition } from "./bucket.ts";
import { type ObjectMeta, readObjectMeta } from "./object-file.ts";
import type { Incoming, Received, Staging } from "./staging.ts";
import { StoreError } from "./store-error.ts";
import { readUploadFacts, type UploadFacts } from "./upload-facts.ts";

const UPLOAD_ID = /^[0-9a-f]{32}$/;
export const MAX_PARTS = 10_000;

export interface Part {
  readonly partNumber: number;
  readonly meta: ObjectMeta;
}

export interface NewPart extends Incoming {
  readonly partNumber: number;
  /** As for an object; the upload's own checksum is kept in any case. */
  readonly accept: (received: Received) => Checksums;
}

/**
 * Multipart uploads: `uploads/<id>/upload.json` and an object file a part. Completing copies the parts into one object
 * file, so that reading, ranges and removal know one kind of object; the parts stay until the object has its name.
 */
export class Uploads {
  readonly #staging: Staging;
  readonly #clock: Clock;
  readonly #locks = new KeyedMutex<string>();

  constructor(staging: Staging, clock: Clock) {
    this.#staging = staging;
    this.#clock = clock;
  }

  async create(bucket: Bucket, what: Omit<UploadFacts, "uploadId" | "initiated">): Promise<UploadFacts> {
    // An id begins with the time, so that uploads of one key are listed in the order of their beginning.
    const time = this.#clock.now().toString(16).padStart(12, "0");
    const facts: UploadFacts = {
      ...what,
      uploadId: `${time}${randomBytes(10).toString("hex")}`,
      initiated: this.#clock.now(),
    };
    const temporary = this.#staging.newPath();
    try {
      await mkdir(temporary, { mode: 0o700 });
      await writeFileAtomic(join(temporary, "upload.json"), JSON.stringify(facts));
      await rename(temporary, this.#folder(bucket, facts.uploadId));
    } catch (err) {
      await rm(temporary, { recursive: true, force: true });
      if (errnoOf(err) === "ENOSPC") throw new StoreError("no_space", "The disk is full.", { cause: err });
      throw err;
    }
    await syncFolder(join(bucket.folder, "uploads"));
    return facts;
  }

  /** @throws StoreError no_such_upload */
  async find(bucket: Bucket, key: string, uploadId: string): Promise<UploadFacts> {
    const facts = UPLOAD_ID.test(uploadId)
      ? await readUploadFacts(join(this.#folder(bucket, uploadId), "upload.json"))
      : undefined;
    if (facts?.key !== key) throw noSuchUpload(uploadId);
    return facts;
  }

  /** Stores a part in place of an earlier one with its number. @throws StoreError no_such_upload */
  async putPart(bucket: Bucket, upload: UploadFacts, part: NewPart): Promise<ObjectMeta> {
    const own = upload.checksumAlgorithm;
    const digest = new Set<ChecksumAlgorithm>([...part.digest, "MD5", ...(own ? [own] : [])]);
    const staged = await this.#staging.receive({ body: part.body, size: part.size, digest }, (received) => ({
      key: upload.key,
      size: received.size,
      etag: received.digests.get("MD5")!.toString("hex"),
      lastModified: this.#clock.now(),
      headers: [],
      userMetadata: [],
      checksums: { ...part.accept(received), ...(own && { [own]: received.digests.get(own)!.toString("base64") }) },
      checksumType: "FULL_OBJECT",
    }));
    const folder = this.#folder(bucket, upload.uploadId);
    try {
      await rename(staged.path, join(folder, partName(part.partNumber)));
      await syncFolder(folder);
    } catch (err) {
      await staged.discard();
      if (errnoOf(err) === "ENOENT") throw noSuchUpload(upload.uploadId);
      throw err;
    }
    return staged.meta;
  }

  /** Sorted by number, beginning after `after`. */
  async listParts(bucket: Bucket, upload: UploadFacts, after = 0, max = MAX_PARTS): Promise<Part[]> {
    const folder = this.#folder(bucket, upload.uploadId);
    const numbers = (await namesIn(folder)).map(partNumberOf).filter((number) => number > after);
    const parts: Part[] = [];
    for (const partNumber of numbers.sort((a, b) => a - b).slice(0, max)) {
      const meta = await readObjectMeta(join(folder, partName(partNumber)));
      if (meta) parts.push({ partNumber, meta });
    }
    return parts;
  }

  /** All of the bucket's uploads, by key (bytes of UTF-8) and beginning. */
  async list(bucket: Bucket): Promise<UploadFacts[]> {
    const ids = await namesIn(join(bucket.folder, "uploads"));
    const all = await Promise.all(ids.map((id) => readUploadFacts(join(this.#folder(bucket, id), "upload.json"))));
    return all
      .filter((facts) => facts !== undefined)
      .sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)) || (a.uploadId < b.uploadId ? -1 : 1));
  }

  /**
   * Makes the object of the parts and ends the upload. Asked again after it succeeded, it answers the same.
   * @throws StoreError no_such_upload, invalid_part, invalid_part_order, part_too_small, too_large, mismatch
   */
  async complete(
    bucket: Bucket,
    key: string,
    uploadId: string,
    parts: readonly CompletedPart[],
    claims: WholeObjectClaims,
    precondition?: Precondition,
  ): Promise<ObjectMeta> {
    return await this.#locks.run(uploadId, async () => {
      const upload = await this.#findOrItsResult(bucket, key, uploadId);
      if ("etag" in upload) return upload;
      if (precondition) await bucket.require(key, precondition);
      const folder = this.#folder(bucket, uploadId);
      const pathOf = (partNumber: number): string => join(folder, partName(partNumber));
      const staged = await assemble(upload, parts, claims, pathOf, this.#staging, this.#clock.now());
      const meta = await bucket.commit(staged, precondition);
      await this.#remove(bucket, uploadId);
      return meta;
    });
  }

  /** @throws StoreError no_such_upload */
  async abort(bucket: Bucket, key: string, uploadId: string): Promise<void> {
    await this.#locks.run(uploadId, async () => {
      await this.find(bucket, key, uploadId);
      await this.#remove(bucket, uploadId);
    });
  }

  async removeOlderThan(bucket: Bucket, initiatedBefore: number): Promise<void> {
    for (const upload of await this.list(bucket)) {
      if (upload.initiated >= initiatedBefore) continue;
      await this.#locks.run(upload.uploadId, () => this.#remove(bucket, upload.uploadId));
    }
  }

  async #findOrItsResult(bucket: Bucket, key: string, uploadId: string): Promise<UploadFacts | ObjectMeta> {
    try {
      return await this.find(bucket, key, uploadId);
    } catch (err) {
      if (!(err instanceof StoreError && err.code === "no_such_upload")) throw err;
      const made = await bucket.head(key).catch(() => undefined);
      if (made?.uploadId === uploadId) return made;
      throw err;
    }
  }

  async #remove(bucket: Bucket, uploadId: string): Promise<void> {
    try {
      await this.#staging.removeFolder(this.#folder(bucket, uploadId), join(bucket.folder, "uploads"));
    } catch (err) {
      if (errnoOf(err) !== "ENOENT") throw err;
    }
  }

  #folder(bucket: Bucket, uploadId: string): string {
    return join(bucket.folder, "uploads", uploadId);
  }
}

const partName = (partNumber: number): string => `part-${String(partNumber).padStart(5, "0")}`;
/** 0 for other files. */
const partNumberOf = (name: string): number => Number(/^part-(\d{5})$/.exec(name)?.[1] ?? 0);

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return [];
    throw err;
  }
}

function noSuchUpload(uploadId: string): StoreError {
  return new StoreError("no_such_upload", `There is no upload ${JSON.stringify(uploadId.slice(0, 64))} of this key.`);
}
