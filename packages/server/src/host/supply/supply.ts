import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { Cleanup } from "../../lib/cleanup.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Limiter } from "../../lib/limiter.ts";
import type { Log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import { Agent } from "../agent/agent.ts";
import { freezeWorkload } from "../agent/freeze.ts";
import { assumeIdentity } from "../agent/identity.ts";
import type { Driver, PreparedVmm, RestoreSpec, Vmm } from "../driver/driver.ts";
import type { EgressPolicy } from "../network/egress.ts";
import { asHostError, devicesOf, memoryOf, placeLayers, type Snapshot } from "../snapshot/snapshot.ts";
import type { OpenTemplate, TemplateStore } from "../template/template-store.ts";
import { type Cell, type Cells, createLayer } from "./cell.ts";
import { askForNothing } from "./first-request.ts";
import type { WarmSet, WarmVmm } from "./warm.ts";

export interface SupplyDeps {
  readonly driver: Driver;
  readonly cells: Cells;
  readonly templates: TemplateStore;
  readonly warm: WarmSet;
  readonly limiter: Limiter;
  readonly clock: Clock;
  readonly log: Log;
  /** Primed VMMs of one template, at most. */
  readonly poolSize: number;
  /** Whether a workload is asked for nothing before somebody asks it for something. */
  readonly askFirst: boolean;
}

/** A VMM in its cell. */
export interface Clone {
  readonly cell: Cell;
  readonly vmm: Vmm;
  /** Closed when the VMM has ended. */
  readonly agent: Agent;
  /** Number of the disk layer that it writes. */
  readonly layer: number;
  /** What did not have to be made for it: `primed`, `process`. */
  readonly reused: readonly string[];
}

interface Prepared {
  readonly cell: Cell;
  readonly vmm: PreparedVmm;
  readonly item: WarmVmm;
}
interface Primed extends Clone {
  readonly item: WarmVmm;
}

/** What is known of one template's use. */
interface Demand {
  /** Monotonic milliseconds. */
  lastUsed: number;
  /** Launches that came in the last while, decaying. */
  recent: number;
  /** Going on, and what ends it. */
  refill: Promise<void> | undefined;
  readonly stop: AbortController;
  /** The workload does not bear being asked for nothing. */
  touchy: boolean;
  prepared: Prepared[];
  primed: Primed[];
}

/** A template that nobody has used for so long is forgotten: nothing is kept for it. */
const FORGET_MS = 10 * 60_000;
/** Half of the launches of so long ago still count. */
const HALF_LIFE_MS = 10_000;
/** Refilling begins when nobody has taken anything for so long: who has just got a VMM needs the processors more. */
const QUIET_MS = 200;
/** Without a quiet moment it begins all the same. */
const BUSY_MS = 1000;
/** What a process takes that has not run yet; measured ones are what they are. */
const PREPARED_BYTES = 16 << 20;
/** An identity that no microvm has. */
const NOBODY = "microvm-00000000-0000-0000-0000-000000000000";

/**
 * Where VMMs come from. Ahead of need it keeps, for each template in use, processes that wait for a snapshot, and clones
 * that are restored, have assumed an identity once and stand still: a launch then spawns nothing and waits for nothing.
 */
export class Supply {
  readonly #deps: SupplyDeps;
  readonly #demand = new Map<string, Demand>();
  /** Templates that nothing is launched from any more. */
  readonly #retired = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #refills = new Set<Promise<void>>();
  /** Of whatever template; monotonic milliseconds. */
  #lastTaken = Number.NEGATIVE_INFINITY;

  constructor(deps: SupplyDeps) {
    this.#deps = deps;
  }

  /** The template has just been made or used: keep something ready for it. */
  want(templateId: string): void {
    this.#use(templateId, 0);
  }

  /**
   * A clone that needs an identity only, paused; undefined when none is ready. Its guest has run already, and reached
   * what its template's build did: it is for nobody who may reach something else.
   */
  takePrimed({ manifest }: OpenTemplate, egress: EgressPolicy | undefined): Clone | undefined {
    this.#lastTaken = this.#deps.clock.monotonic();
    const demand = this.#use(manifest.templateId, 1);
    return isDeepStrictEqual(egress, manifest.egress) ? this.#shift(demand.primed) : undefined;
  }

  /**
   * A VMM that holds the snapshot, or the template as it is, paused.
   * @throws HostError
   */
  async clone(template: OpenTemplate, snapshot: Snapshot | undefined, signal: AbortSignal): Promise<Clone> {
    const { manifest } = template;
    this.#lastTaken = this.#deps.clock.monotonic();
    const demand = this.#use(manifest.templateId, 0);
    const prepared = this.#shift(demand.prepared);
    const reused = prepared ? ["process"] : [];
    return await this.#restore(prepared ?? (await this.#prepare(template, signal)), template, snapshot, reused, signal);
  }

  /** Nothing is kept ready for the template, from now on until it is offered again. */
  async retire(templateId: string): Promise<void> {
    this.#retired.add(templateId);
    const demand = this.#demand.get(templateId);
    if (!demand) return;
    this.#demand.delete(templateId);
    demand.stop.abort(new Error("the template is retired"));
    await demand.refill;
    for (const { item } of [...demand.primed, ...demand.prepared]) if (this.#deps.warm.take(item)) await item.evict();
  }

  /** Takes `retire` back. */
  offer(templateId: string): void {
    this.#retired.delete(templateId);
    this.want(templateId);
  }

  /** The template is no more. */
  forget(templateId: string): void {
    this.#retired.delete(templateId);
    this.#demand.delete(templateId);
  }

  /** Stops making any; those that are there are the warm set's to end. */
  async close(): Promise<void> {
    this.#stopping.abort(new Error("the host is closing"));
    while (this.#refills.size > 0) await Promise.all(this.#refills);
  }

  #use(templateId: string, launches: number): Demand {
    const now = this.#deps.clock.monotonic();
    let demand = this.#demand.get(templateId);
    if (!demand) {
      const stop = new AbortController();
      demand = { lastUsed: now, recent: 0, refill: undefined, stop, touchy: false, prepared: [], primed: [] };
      this.#demand.set(templateId, demand);
    }
    demand.recent = demand.recent * 0.5 ** ((now - demand.lastUsed) / HALF_LIFE_MS) + launches;
    demand.lastUsed = now;
    this.#refill(templateId, demand);
    return demand;
  }

  /** Primed clones to keep: as many as are likely to be asked for while the next one is made. */
  #target(demand: Demand): number {
    if (this.#deps.clock.monotonic() - demand.lastUsed > FORGET_MS) return 0;
    return Math.min(this.#deps.poolSize, 1 + Math.ceil(demand.recent / 4));
  }

  /** One after the other, behind what is urgent. */
  #refill(templateId: string, demand: Demand): void {
    const signal = AbortSignal.any([this.#stopping.signal, demand.stop.signal]);
    if (demand.refill || signal.aborted || this.#deps.poolSize === 0 || this.#retired.has(templateId)) return;
    const refill = this.#refillOnce(templateId, demand, signal)
      .catch((err: unknown) => {
        if (!signal.aborted) this.#deps.log.warn({ err, templateId }, "nothing kept ready");
      })
      .finally(() => {
        demand.refill = undefined;
        this.#refills.delete(refill);
      });
    demand.refill = refill;
    this.#refills.add(refill);
  }

  async #refillOnce(templateId: string, demand: Demand, signal: AbortSignal): Promise<void> {
    const { warm, templates, limiter } = this.#deps;
    while (!signal.aborted && (await warm.roomy())) {
      const missing =
        demand.primed.length < this.#target(demand) ? "primed" : demand.prepared.length < 1 ? "prepared" : undefined;
      if (!missing) return;
      await this.#quiet(signal);
      const template = await templates.open(templateId);
      const add = missing === "primed" ? this.#addPrimed : this.#addPrepared;
      const item = await limiter.run("idle", signal, () => add.call(this, template, demand, signal));
      if (signal.aborted && warm.take(item)) await item.evict();
      if (!warm.has(item)) return; // there is no room for it
    }
  }

  async #quiet(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const begun = clock.monotonic();
    for (;;) {
      const now = clock.monotonic();
      const left = Math.min(this.#lastTaken + QUIET_MS, begun + BUSY_MS) - now;
      if (left <= 0) return;
      await pause(clock, left, signal);
    }
  }

  async #addPrepared(template: OpenTemplate, demand: Demand, signal: AbortSignal): Promise<WarmVmm> {
    const { cell, vmm } = await this.#prepare(template, signal);
    const prepared: Prepared = { cell, vmm, item: this.#item("prepared", PREPARED_BYTES, cell, vmm) };
    demand.prepared.push(prepared);
    this.#forgetWhenEnded(prepared, demand.prepared);
    return prepared.item;
  }

  async #addPrimed(template: OpenTemplate, demand: Demand, signal: AbortSignal): Promise<WarmVmm> {
    await using undo = new Cleanup(this.#deps.log);
    const waiting = this.#shift(demand.prepared);
    const clone = await this.#restore(
      waiting ?? (await this.#prepare(template, signal)),
      template,
      undefined,
      [],
      signal,
    );
    undo.add("clone", () => this.discard(clone));
    const { agent } = clone;
    await this.#deps.cells.open(clone.cell, template.manifest.egress);
    await clone.vmm.run();
    await assumeIdentity(agent, NOBODY, randomBytes(16), signal);
    const { port } = template.manifest;
    if (port !== null && this.#deps.askFirst && !demand.touchy) {
      demand.touchy = true; // until it has borne it
      await askForNothing(agent, port, signal);
      demand.touchy = false;
    }
    await freezeWorkload(agent, clone.vmm, this.#deps.log, signal);
    await clone.vmm.pause();
    const privateBytes = await clone.vmm.privateBytes();
    undo.release();
    const item = this.#item("primed", privateBytes, clone.cell, clone.vmm);
    const primed: Primed = { ...clone, reused: ["primed"], item };
    demand.primed.push(primed);
    this.#forgetWhenEnded(primed, demand.primed);
    return item;
  }

  /** Ends a VMM that is nobody's, and gives its cell back. */
  async discard({ vmm, cell }: { readonly vmm: Pick<Vmm, "kill">; readonly cell: Cell }): Promise<void> {
    await vmm.kill();
    await this.#deps.cells.remove(cell);
  }

  /** The first that has not been evicted meanwhile. */
  #shift<T extends { readonly item: WarmVmm }>(list: T[]): T | undefined {
    for (let one = list.shift(); one; one = list.shift()) if (this.#deps.warm.take(one.item)) return one;
    return undefined;
  }

  #item(kind: WarmVmm["kind"], bytes: number, cell: Cell, vmm: Pick<Vmm, "kill">): WarmVmm {
    const { warm, clock } = this.#deps;
    const item: WarmVmm = {
      kind,
      bytes,
      until: clock.monotonic() + FORGET_MS,
      evict: () => this.discard({ vmm, cell }),
    };
    warm.add(item);
    return item;
  }

  /** One that dies while it waits is not handed out. */
  #forgetWhenEnded<T extends { readonly vmm: { readonly ended: Promise<string> }; readonly item: WarmVmm }>(
    one: T,
    list: T[],
  ): void {
    void one.vmm.ended.then(async () => {
      const at = list.indexOf(one);
      if (at >= 0) list.splice(at, 1);
      if (this.#deps.warm.take(one.item)) await one.item.evict();
    });
  }

  async #prepare(template: OpenTemplate, signal: AbortSignal): Promise<{ cell: Cell; vmm: PreparedVmm }> {
    const { cells, driver } = this.#deps;
    const { shape, diskBytes, baselineMib = shape.memoryMib } = template.manifest;
    const cell = await cells.create(baselineMib);
    try {
      const vmm = await driver.prepare(
        { dir: cell.dir, slot: cell.slot, shape, template: template.files, diskBytes },
        signal,
      );
      return { cell, vmm };
    } catch (err) {
      await cells.remove(cell);
      throw err;
    }
  }

  async #restore(
    { cell, vmm: prepared }: { cell: Cell; vmm: PreparedVmm },
    template: OpenTemplate,
    snapshot: Snapshot | undefined,
    reused: readonly string[],
    signal: AbortSignal,
  ): Promise<Clone> {
    try {
      const layers = snapshot ? await placeLayers(snapshot, cell.dir.disks) : [];
      const layer = layers.length + 1;
      const activeDisk = await createLayer(this.#deps.driver, cell, layer, template.manifest.diskBytes);
      const spec: RestoreSpec = snapshot
        ? { layers, activeDisk, devices: devicesOf(snapshot), memory: memoryOf(snapshot) }
        : { layers, activeDisk, devices: template.files.devices, memory: [] };
      const vmm = await prepared.restore(spec, signal);
      return { cell, vmm, agent: new Agent(cell.slot.address, vmm.ended), layer, reused };
    } catch (err) {
      await this.discard({ vmm: prepared, cell });
      throw asHostError(err);
    }
  }
}
