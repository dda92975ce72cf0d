import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { BuildError } from "../host-client.ts";
import { cleanStore, IN_JAIL, makeStore, storeEnv } from "./buildah.ts";
import { allocatedBytes } from "./disk-guard.ts";
import type { JailEnd, JailRequest } from "./jail.ts";

export interface AccountStoreOptions {
  readonly folder: string;
  /** Folder of the base images, shown in every jail that uses the store. */
  readonly baseStore: string;
  readonly uidBase: number;
  /** Size of the file system; the file takes only what is used. */
  readonly bytes: number;
  /**
   * A store that has grown beyond this, or beyond the room that is left on the disk, is thrown away before the next
   * build.
   */
  readonly keptBytes: number;
  /** Runs something in this build's jail, its output thrown away. */
  readonly run: (request: JailRequest, signal: AbortSignal) => Promise<JailEnd>;
  readonly log: Log;
}

const CLEAN_MS = 60_000;
const MARK = "in-use";

/** Whether the account's last build did not end by itself. */
export async function wasInterrupted(folder: string): Promise<boolean> {
  return (await readMark(join(folder, MARK))) !== undefined;
}

/**
 * An account's image store and layer cache: an ext4 file system in one sparse file, so that size, inodes and removal
 * are the kernel's business. It is a cache, without a journal: a doubt about it, and it is made anew. The caller sees
 * to it that one build at a time uses it.
 */
export class AccountStore {
  readonly image: string;
  readonly #options: AccountStoreOptions;
  /** There while a build uses the store: which boot of the host it began in. */
  readonly #mark: string;

  constructor(options: AccountStoreOptions) {
    this.image = join(options.folder, "store.ext4");
    this.#mark = join(options.folder, MARK);
    this.#options = options;
  }

  /** Runs the build; afterwards the store is as good as before, or gone. */
  async use<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    await this.recover();
    await this.#ensure(signal);
    await writeFileAtomic(this.#mark, await bootId());
    try {
      const result = await work();
      await rm(this.#mark);
      return result;
    } catch (err) {
      // What we did not expect may be the store's fault. What the user did wrong is not.
      if (err instanceof BuildError || signal.aborted) await this.recover();
      else await this.#discard("a build failed unexpectedly");
      throw err;
    }
  }

  /** Brings a store back in order whose last build did not end by itself. */
  async recover(): Promise<void> {
    const began = await readMark(this.#mark);
    if (began === undefined) return;
    if (began !== (await bootId())) {
      await this.#discard("the host went down while it was in use");
      return;
    }
    try {
      const end = await this.#options.run(this.request({ argv: cleanStore }), AbortSignal.timeout(CLEAN_MS));
      if (end.exitCode !== 0) throw new Error(`exit status ${end.exitCode}`);
      await rm(this.#mark, { force: true });
    } catch (err) {
      this.#options.log.warn({ err, store: this.image }, "image store could not be cleaned");
      await this.#discard("it could not be cleaned");
    }
  }

  /** A request with the store and the base images in their places. */
  request(request: Omit<JailRequest, "binds" | "store"> & { readonly binds?: JailRequest["binds"] }): JailRequest {
    return {
      ...request,
      store: this.image,
      binds: [{ source: this.#options.baseStore, target: IN_JAIL.baseStore }, ...(request.binds ?? [])],
      env: { ...storeEnv, ...request.env },
    };
  }

  async #ensure(signal: AbortSignal): Promise<void> {
    const allocated = await allocatedBytes(this.image).catch((err: unknown) => {
      if (errnoOf(err) === "ENOENT") return undefined;
      throw err;
    });
    const fs = await statfs(this.#options.folder);
    const kept = Math.min(this.#options.keptBytes, fs.bavail * fs.bsize);
    if (allocated !== undefined && allocated <= kept) return;
    if (allocated !== undefined) await this.#discard("it has grown too large");
    await this.#make(signal);
  }

  async #make(signal: AbortSignal): Promise<void> {
    const { uidBase, bytes, run } = this.#options;
    const temporary = `${this.image}.${randomBytes(4).toString("hex")}.tmp`;
    try {
      const file = await open(temporary, "wx", 0o600);
      try {
        await file.truncate(bytes);
        await file.chown(uidBase, uidBase);
      } finally {
        await file.close();
      }
      const end = await run(
        { argv: makeStore(uidBase), binds: [{ source: temporary, target: IN_JAIL.store, writable: true }] },
        signal,
      );
      if (end.exitCode !== 0) throw new Error(`cannot make an image store: mke2fs ended with ${end.exitCode}`);
      await chown(temporary, 0, 0);
      await chmod(temporary, 0o600);
      await rename(temporary, this.image);
    } catch (err) {
      await rm(temporary, { force: true });
      throw err;
    }
  }

  async #discard(why: string): Promise<void> {
    this.#options.log.info({ store: this.image, why }, "image store discarded");
    await rm(this.image, { force: true });
    await rm(this.#mark, { force: true });
  }
}

async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

async function readMark(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return undefined;
    throw err;
  }
}
