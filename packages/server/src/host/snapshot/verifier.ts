import type { Clock } from "../../lib/clock.ts";
import { Limiter } from "../../lib/limiter.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import { DamagedError } from "../host-client.ts";
import type { ChecksumOptions, Checksums } from "./checksums.ts";
import type { SnapshotManifest } from "./manifest.ts";
import type { Snapshot } from "./snapshot.ts";
import {
  type Damage,
  glance,
  knownLayers,
  layerDamage,
  MANIFEST,
  readManifest,
  readVerification,
  type Verification,
  verify,
  writeVerification,
} from "./verification.ts";

export interface VerifierDeps {
  readonly checksums: Checksums;
  /** Of the host's heavy work. */
  readonly limiter: Limiter;
  readonly clock: Clock;
  readonly log: Log;
}

/** Says of restore points whether they are as they were written. */
export class Verifier {
  readonly #deps: VerifierDeps;
  /** Two at once would only make both late. */
  readonly #one = new Limiter(1);
  /** What was found is written by one at a time. */
  readonly #folders = new KeyedMutex<string>();

  constructor(deps: VerifierDeps) {
    this.#deps = deps;
  }

  /**
   * The snapshot in a folder, if a glance finds nothing wrong with it; one that was found damaged is read as a whole
   * again, since it may have been mended.
   * @param owner the microvm that must have it
   * @throws DamagedError, HostError `incompatible`
   */
  async open(folder: string, owner: string | undefined, signal: AbortSignal): Promise<Snapshot> {
    const manifest = await readManifest(folder);
    if ("what" in manifest) {
      await this.#note(folder, manifest);
      throw new DamagedError("restore point", manifest, "its restore point");
    }
    const damage = await this.#look(folder, manifest, owner, signal);
    if (damage) throw damagedError(manifest, damage);
    return { path: folder, manifest };
  }

  async #look(
    folder: string,
    manifest: SnapshotManifest,
    owner: string | undefined,
    signal: AbortSignal,
  ): Promise<Damage | undefined> {
    const others = owner !== undefined && manifest.microvmId !== owner;
    let found = await readVerification(folder);
    if (!others && found?.damage) {
      found = await this.#verify(folder, {}, signal);
      if (found.damage) return found.damage;
    }
    const damage = others
      ? { file: MANIFEST, what: `is of ${manifest.microvmId}` }
      : await glance(folder, manifest, found, this.#deps.checksums, signal);
    if (damage) await this.#note(folder, damage);
    return damage;
  }

  /**
   * Reads a snapshot as a whole for somebody who waits.
   * @throws DamagedError
   */
  async require(snapshot: Snapshot, signal: AbortSignal): Promise<void> {
    const { damage } = await this.#verify(snapshot.path, {}, signal);
    if (damage) throw damagedError(snapshot.manifest, damage);
  }

  /**
   * Reads the layers of a snapshot from `from` on whose digests are known, of the page cache: for somebody who reads them,
   * too.
   * @throws DamagedError
   */
  async requireLayers({ path, manifest }: Snapshot, from: number, signal: AbortSignal): Promise<void> {
    const wanted = { ...manifest, layers: manifest.layers.slice(from) };
    const layers = knownLayers(wanted, await readVerification(path));
    const damage = await layerDamage(path, layers, this.#deps.checksums, signal);
    if (!damage) return;
    await this.#note(path, damage);
    throw damagedError(manifest, damage);
  }

  /** Reads a snapshot as a whole when its turn has come and nobody waits for the host. */
  async check(folder: string, pace: number | undefined, signal: AbortSignal): Promise<Verification> {
    return await this.#one.run("idle", signal, async () => {
      await this.#deps.limiter.run("idle", signal, async () => {});
      return await this.#verify(folder, { idle: true, ...(pace !== undefined && { pace }) }, signal);
    });
  }

  #verify(folder: string, options: ChecksumOptions, signal: AbortSignal): Promise<Verification> {
    const { checksums, clock, log } = this.#deps;
    return this.#folders.run(folder, async () => {
      signal.throwIfAborted();
      const begun = clock.monotonic();
      const manifest = await readManifest(folder);
      const found = await verify(folder, manifest, checksums, options, new Date(clock.now()), signal);
      const ms = Math.round(clock.monotonic() - begun);
      if (found.damage) log.error({ folder, ...found.damage, ms }, "restore point damaged");
      else log.debug({ folder, ms }, "restore point verified");
      return found;
    });
  }

  /** What a glance found, for whoever asks later. */
  #note(folder: string, damage: Damage): Promise<void> {
    const { clock, log } = this.#deps;
    return this.#folders.run(folder, async () => {
      log.error({ folder, ...damage }, "restore point damaged");
      try {
        const { layers } = (await readVerification(folder)) ?? { layers: {} };
        await writeVerification(folder, { schema: 1, checkedAt: new Date(clock.now()).toISOString(), damage, layers });
      } catch (err) {
        log.warn({ err, folder }, "damage not written down"); // the next glance sees it, too
      }
    });
  }
}

const damagedError = ({ createdAt }: SnapshotManifest, damage: Damage): DamagedError =>
  new DamagedError("restore point", damage, `the restore point of ${createdAt}`);
