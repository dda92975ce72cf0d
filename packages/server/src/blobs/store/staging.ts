import { randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import { type ChecksumAlgorithm, createChecksum } from "../checksum.ts";
import { encodeTrailer, type ObjectMeta } from "./object-file.ts";
import { StoreError } from "./store-error.ts";

/** Bytes on their way in. */
export interface Incoming {
  /** Ends when all has come; throws when the sender goes away or what comes is not what was promised. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Announced bytes: room for them is looked for before the first is taken. */
  readonly size: number;
  /** What to compute on the way. */
  readonly digest: Iterable<ChecksumAlgorithm>;
}

export interface Received {
  readonly size: number;
  readonly digests: ReadonlyMap<ChecksumAlgorithm, Buffer>;
}

/** A complete object file without a name; `discard` it, or rename it away. */
export interface Staged {
  readonly path: string;
  readonly meta: ObjectMeta;
  discard(): Promise<void>;
}

export interface StagingLimits {
  readonly maxObjectBytes: number;
  /** Free space that is never used, in bytes. */
  readonly reservedBytes: number;
}

/** How many bytes are written between two looks at the free space. */
const SPACE_CHECK_BYTES = 64 * 2 ** 20;

/**
 * Where object files grow, on the file system of their destination. Nothing in it survives a restart. What could not
 * be finished is removed before the error goes on.
 */
export class Staging {
  readonly #folder: string;
  readonly #limits: StagingLimits;

  private constructor(folder: string, limits: StagingLimits) {
    this.#folder = folder;
    this.#limits = limits;
  }

  static async open(folder: string, limits: StagingLimits): Promise<Staging> {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return new Staging(folder, limits);
  }

  /** A name in the folder that nothing has. */
  newPath(): string {
    return join(this.#folder, randomBytes(12).toString("hex"));
  }

  /**
   * Writes the body and then what `describe` says of it, durably. `describe` throws to refuse the object.
   * @throws StoreError too_large, no_space; whatever the body throws
   */
  async receive(incoming: Incoming, describe: (received: Received) => ObjectMeta): Promise<Staged> {
    if (incoming.size > this.#limits.maxObjectBytes) throw tooLarge(incoming.size, this.#limits.maxObjectBytes);
    await this.#requireSpace(incoming.size);
    const path = this.newPath();
    const discard = (): Promise<void> => rm(path, { force: true });
    try {
      const file = await open(path, "wx", 0o600);
      try {
        const meta = describe(await this.#copy(incoming, file));
        await writeAll(file, encodeTrailer(meta));
        await file.sync();
        return { path, meta, discard };
      } finally {
        await file.close();
      }
    } catch (err) {
      await discard();
      if (errnoOf(err) === "ENOSPC" || errnoOf(err) === "EDQUOT")
        throw new StoreError("no_space", "The disk is full.", { cause: err });
      throw err;
    }
  }

  /** Moves a folder out of sight at once, durably, and then removes it. */
  async removeFolder(folder: string, parent: string): Promise<void> {
    const grave = this.newPath();
    await rename(folder, grave);
    await syncFolder(parent);
    await rm(grave, { recursive: true, force: true });
  }

  async #copy(incoming: Incoming, file: FileHandle): Promise<Received> {
    const checksums = new Map([...incoming.digest].map((algorithm) => [algorithm, createChecksum(algorithm)]));
    let size = 0;
    let unchecked = 0;
    for await (const chunk of incoming.body) {
      size += chunk.length;
      if (size > this.#limits.maxObjectBytes) throw tooLarge(size, this.#limits.maxObjectBytes);
      unchecked += chunk.length;
      if (unchecked >= SPACE_CHECK_BYTES) {
        unchecked = 0;
        await this.#requireSpace(0);
      }
      for (const checksum of checksums.values()) checksum.update(chunk);
      await writeAll(file, chunk);
    }
    return { size, digests: new Map([...checksums].map(([algorithm, checksum]) => [algorithm, checksum.digest()])) };
  }

  async #requireSpace(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#folder);
    const free = bavail * bsize;
    if (free - bytes < this.#limits.reservedBytes)
      throw new StoreError(
        "no_space",
        `The disk is full: ${free} bytes are free, ${this.#limits.reservedBytes} of them reserved. Delete something, or lower reserved-disk-mib.`,
      );
  }
}

async function writeAll(file: FileHandle, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length; ) at += (await file.write(data, at)).bytesWritten;
}

function tooLarge(size: number, max: number): StoreError {
  return new StoreError("too_large", `An object of ${size} bytes is larger than the ${max} that are allowed.`);
}
