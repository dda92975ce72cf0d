import { createHash, randomBytes } from "node:crypto";
import { chown, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import { BuildLog } from "./build-log.ts";
import { baseStoreEnv, IN_JAIL, importBase } from "./buildah.ts";
import type { JailEnd, JailRequest } from "./jail.ts";
import { type BuildTools, verifyBase } from "./tools.ts";

type RunInJail = (
  name: string,
  request: JailRequest,
  onOutput: (chunk: Uint8Array) => void,
  signal: AbortSignal,
) => Promise<JailEnd>;

const IMPORT_MS = 10 * 60_000;

/**
 * The base images as buildah wants them: one store for all accounts, made once for a set of bases, then only ever
 * mounted read-only. It must not hold anything else, because builds find its layers like those of their own cache.
 */
export class BaseStore {
  readonly #folder: string;
  readonly #uidBase: number;
  readonly #run: RunInJail;
  /** By folder: builds that come meanwhile wait for the same import, whoever began it. */
  readonly #importing = new Map<string, Promise<void>>();

  constructor(folder: string, uidBase: number, run: RunInJail) {
    this.#folder = folder;
    this.#uidBase = uidBase;
    this.#run = run;
  }

  /** Whether nothing has to be imported for these bases. */
  isReady(tools: BuildTools): Promise<boolean> {
    return exists(this.#pathOf(tools));
  }

  /** The folder to show in a jail at IN_JAIL.baseStore. */
  async ready(tools: BuildTools, signal: AbortSignal): Promise<string> {
    const path = this.#pathOf(tools);
    if (await exists(path)) return path;
    let importing = this.#importing.get(path);
    if (!importing) {
      importing = this.#import(tools, path).finally(() => this.#importing.delete(path));
      this.#importing.set(path, importing);
    }
    await untilAborted(importing, signal);
    return path;
  }

  /** Removes half-made stores and those of bases that are no more. Only while nothing builds. */
  async sweep(tools: BuildTools): Promise<void> {
    const current = this.#pathOf(tools);
    for (const name of await readdir(this.#folder).catch(() => [])) {
      const path = join(this.#folder, name);
      if (path !== current) await rm(path, { recursive: true, force: true });
    }
  }

  #pathOf(tools: BuildTools): string {
    const made = [tools.buildahVersion, this.#uidBase, tools.bases.map((base) => [base.sha256, base.references])];
    return join(this.#folder, createHash("sha256").update(JSON.stringify(made)).digest("hex").slice(0, 12));
  }

  async #import(tools: BuildTools, path: string): Promise<void> {
    const signal = AbortSignal.timeout(IMPORT_MS);
    await mkdir(this.#folder, { recursive: true, mode: 0o711 });
    const mark = randomBytes(4).toString("hex");
    const temporary = join(this.#folder, `import-${mark}.tmp`);
    try {
      await mkdir(temporary);
      await chown(temporary, this.#uidBase, this.#uidBase);
      for (const base of tools.bases) {
        await verifyBase(base, signal);
        const log = new BuildLog({ maxBytes: 0, write: () => {} });
        const end = await this.#run(
          `import-${mark}`,
          {
            argv: importBase(base.references),
            binds: [
              { source: temporary, target: "/w", writable: true },
              { source: base.path, target: IN_JAIL.baseTar },
            ],
            env: baseStoreEnv,
          },
          (chunk) => log.output(chunk),
          signal,
        );
        log.end();
        if (end.exitCode !== 0) throw new Error(`cannot import the base ${base.name}: ${log.tail().join("\n")}`);
      }
      await rename(temporary, path);
      await syncFolder(this.#folder);
    } catch (err) {
      await rm(temporary, { recursive: true, force: true });
      throw err;
    }
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return false;
    throw err;
  }
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
