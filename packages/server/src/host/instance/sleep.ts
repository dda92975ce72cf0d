import type { Log } from "../../lib/log.ts";
import type { Driver } from "../driver/driver.ts";
import { TOO_MANY_LAYERS } from "../snapshot/layer-merge.ts";
import { sealLayers } from "../snapshot/snapshot.ts";
import { type Cells, createLayer } from "../supply/cell.ts";
import type { Clone } from "../supply/supply.ts";
import type { TemplateStore } from "../template/template-store.ts";
import { type AsleepDeps, careForSleeper, careForWaking, type Sleeper } from "./asleep.ts";
import type { InstanceRecord } from "./instance-record.ts";
import type { RestorePoints } from "./restore-points.ts";
import { Standby, type StandbyDeps } from "./standby.ts";
import { Upkeep } from "./upkeep.ts";

export interface SleepDeps extends StandbyDeps, AsleepDeps {
  readonly driver: Driver;
  readonly cells: Cells;
  readonly templates: TemplateStore;
}

/** Of the instance that sleeps. */
export interface SleepParts extends Pick<Sleeper, "points" | "scratch" | "moveTo"> {
  readonly log: Log;
}

/** What it sleeps at. */
type At = Pick<InstanceRecord, "snapshot" | "templateId">;

/** A suspended instance: its VMM, if that stands by, and what is done for it while nobody uses it. */
export class Sleep {
  readonly #deps: SleepDeps;
  readonly #points: RestorePoints;
  readonly #parts: SleepParts;
  readonly #log: Log;
  readonly #upkeep = new Upkeep();
  #standby: Standby | undefined;

  constructor(deps: SleepDeps, parts: SleepParts) {
    this.#deps = deps;
    this.#points = parts.points;
    this.#parts = parts;
    this.#log = parts.log;
  }

  /** The VMM that stands by. */
  get vmm(): Clone["vmm"] | undefined {
    return this.#standby?.vmm;
  }

  /** The cell of that. */
  get cell(): Clone["cell"] | undefined {
    return this.#standby?.cell;
  }

  /** Its VMM stands by if that is wanted, else it is ended. */
  async begin(at: At, clone: Clone): Promise<void> {
    const { standbyMs, cells } = this.#deps;
    if (standbyMs === 0 || clone.layer > TOO_MANY_LAYERS) {
      await clone.vmm.kill();
      await sealLayers(await this.#points.open(at.snapshot));
      cells.removeLater(clone.cell);
      this.startUpkeep(at);
      return;
    }
    const privateBytes = await clone.vmm.privateBytes().catch(() => 0); // it has ended
    const { promise: layered, resolve } = Promise.withResolvers<void>();
    this.#standby = new Standby(clone, privateBytes, this.#deps, () => this.#putLayerAbove(at, clone).finally(resolve));
    this.startUpkeep(at, layered);
  }

  /** @param ready when nobody writes its layers any more */
  startUpkeep(at: At, ready: Promise<void> = Promise.resolve()): void {
    const sleeper = this.#sleeper(at);
    const work = async (signal: AbortSignal): Promise<void> => {
      await ready;
      await careForSleeper(sleeper, this.#deps, signal);
    };
    this.#upkeep.start(work, (err) => this.#log.warn({ err }, "restore point not looked after"));
  }

  /** Somebody needs the instance: resolves when nothing is done for it any more. */
  async stopUpkeep(): Promise<void> {
    await this.#upkeep.stop();
  }

  /**
   * Before a restore. What goes wrong here costs time and nothing else: the restore point is as it was.
   * @throws the signal's reason
   */
  async prepareToWake(at: At, signal: AbortSignal): Promise<void> {
    if (this.#standby) return;
    try {
      await careForWaking(this.#sleeper(at), this.#deps, signal);
    } catch (err) {
      signal.throwIfAborted();
      this.#log.warn({ err }, "disk layers not merged");
    }
  }

  /** The VMM that stood by, ready to run; undefined when there is none. */
  async wake({ snapshot }: At): Promise<Clone | undefined> {
    const standby = this.#standby;
    this.#standby = undefined;
    if (!standby) return undefined;
    // Its memory is its own, but not the layers of its disk.
    if ((await this.#points.found(snapshot))?.damage?.file.startsWith("disk-")) {
      await standby.end();
      return undefined;
    }
    return await standby.take();
  }

  /** Ends the VMM that stands by. */
  async endStandby(): Promise<void> {
    const standby = this.#standby;
    this.#standby = undefined;
    await standby?.end();
  }

  /** Reads the restore point again, unless that was done since. Gives way at once. */
  async scrub({ snapshot }: At, since: Date, pace: number): Promise<void> {
    if (!this.#upkeep.resting || !(await this.#points.unchecked(snapshot, since))) return;
    if (!this.#upkeep.resting) return;
    this.#upkeep.start(
      (signal) => this.#points.check(snapshot, pace, signal),
      (err) => this.#log.warn({ err }, "restore point not checked"),
    );
    await this.#upkeep.done();
  }

  /** What the guest writes when it wakes must not go into the snapshot's layers. */
  async #putLayerAbove({ snapshot, templateId }: At, clone: Clone): Promise<Clone> {
    const { manifest } = await this.#deps.templates.open(templateId);
    const layer = clone.layer + 1;
    await clone.vmm.switchDisk(await createLayer(this.#deps.driver, clone.cell, layer, manifest.diskBytes));
    await sealLayers(await this.#points.open(snapshot));
    return { ...clone, layer };
  }

  #sleeper({ snapshot: number, templateId }: At): Sleeper {
    const { points, scratch, moveTo } = this.#parts;
    const diskBytes = async () => (await this.#deps.templates.open(templateId)).manifest.diskBytes;
    return { points, number, diskBytes, scratch, moveTo };
  }
}
