import type { Receipt } from "@torpor/protocol";
import type { Clock } from "../../lib/clock.ts";
import { TorporError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import { StaleWriteError } from "../../store/errors.ts";
import type { Microvm } from "../../store/microvm.ts";
import type { Store } from "../../store/store.ts";
import { refuseBeyond } from "../quota/exceeded.ts";
import type { Quotas } from "../quota/quotas.ts";
import { untilStored } from "../until-stored.ts";
import { LiveMicrovm } from "./live.ts";
import { type Effect, type MicrovmEvent, type Phase, phaseOf, step } from "./state.ts";

const WITHOUT_MEMORY: ReadonlySet<Phase> = new Set(["SUSPENDED", "ROLLING_BACK_SUSPENDED"]);

export interface FleetDeps {
  readonly store: Pick<Store, "microvms">;
  readonly clock: Clock;
  readonly log: Log;
  readonly shutdown: AbortSignal;
  /** That the host runs at once, suspended ones not counted. */
  readonly maxMicrovms: number;
  readonly quotas: Pick<Quotas, "limit">;
}

/** All live microvms, one writer at a time for each. Every change of state goes through here. */
export class Fleet {
  readonly #deps: FleetDeps;
  readonly #live = new Map<string, LiveMicrovm>();
  readonly #mutex = new KeyedMutex<string>();
  /** Those that are about to take memory of the host, written or not. */
  readonly #starting = new Map<string, Microvm>();
  #onLive: (live: LiveMicrovm) => void = () => {};

  constructor(deps: FleetDeps) {
    this.#deps = deps;
  }

  /** Called with each microvm that is live now, and with each new one. */
  watch(onLive: (live: LiveMicrovm) => void): void {
    this.#onLive = onLive;
    for (const live of this.#live.values()) onLive(live);
  }

  /** Reads what an earlier server left. */
  async load(): Promise<void> {
    for (const vm of await this.#deps.store.microvms.live()) this.#track(vm);
  }

  get(id: string): LiveMicrovm | undefined {
    return this.#live.get(id);
  }

  all(): LiveMicrovm[] {
    return [...this.#live.values()];
  }

  /** Work on one microvm, in the order of asking. */
  exclusive<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#mutex.run(id, work);
  }

  /** True while someone works on it, or waits to. */
  busy(id: string): boolean {
    return this.#mutex.busy(id);
  }

  /** Tracks new microvms as soon as `insert` has written them all. */
  async add(vms: readonly Microvm[], insert: () => Promise<void>): Promise<void> {
    await insert();
    for (const vm of vms) this.#track(vm);
  }

  /**
   * Keeps room for all these microvms, or for none, while `write` makes them or lets them run again.
   * @throws TorporError `quota` when the account may not have so much, `capacity` when the host is not configured for it
   */
  async takeRoom<T>(vms: readonly Microvm[], write: () => Promise<T>): Promise<T> {
    this.#refuseBeyondQuotas(vms);
    this.#refuseBeyondHost(vms.length);
    for (const vm of vms) this.#starting.set(vm.id, vm);
    try {
      return await write();
    } finally {
      for (const { id } of vms) this.#starting.delete(id);
    }
  }

  /** What an account has of its quotas now. Suspended microvms hold their memory, and those that end until they are gone. */
  use(accountId: string): { readonly memoryMib: number; readonly running: number } {
    let memoryMib = 0;
    let running = 0;
    for (const { vm } of this.#live.values()) {
      if (vm.accountId !== accountId) continue;
      memoryMib += vm.spec.memoryMib;
      if (this.#takesMemory(vm)) running++;
    }
    for (const vm of this.#starting.values()) {
      if (vm.accountId !== accountId) continue;
      if (!this.#live.has(vm.id)) memoryMib += vm.spec.memoryMib;
      running++;
    }
    return { memoryMib, running };
  }

  #refuseBeyondQuotas(vms: readonly Microvm[]): void {
    const [first] = vms;
    if (!first) return;
    const { accountId } = first;
    const { quotas } = this.#deps;
    const { memoryMib, running } = this.use(accountId);
    // One that is to run again has its memory already, and a quota that was lowered since does not take it away.
    const added = vms.filter(({ id }) => !this.#live.has(id)).reduce((sum, { spec }) => sum + spec.memoryMib, 0);
    if (added > 0)
      refuseBeyond("allocated-memory-mib", quotas.limit(accountId, "allocated-memory-mib"), memoryMib + added);
    refuseBeyond("running-microvms", quotas.limit(accountId, "running-microvms"), running + vms.length);
  }

  #refuseBeyondHost(count: number): void {
    const { maxMicrovms } = this.#deps;
    const free = maxMicrovms - this.#occupied();
    if (free <= 0)
      throw new TorporError(
        "capacity",
        `The host runs ${maxMicrovms} MicroVMs, as many as it is configured for. Terminate or suspend one, or try again later.`,
      );
    if (free < count)
      throw new TorporError(
        "capacity",
        `The host has room for ${free} more of the ${maxMicrovms} MicroVMs that it is configured for, not for ${count}. Ask for fewer, terminate or suspend some, or try again later.`,
      );
  }

  /**
   * Writes a step; what the host is to do next is returned. Within `exclusive` only.
   * @throws IllegalStepError, StaleWriteError, CheckpointUnavailableError, TorporError `unavailable`
   */
  async apply(live: LiveMicrovm, event: MicrovmEvent, receipt?: Receipt): Promise<readonly Effect[]> {
    const { store, clock, log } = this.#deps;
    const before = live.vm;
    const used = live.lastUsed;
    const { next, effects } = step({ ...before, lastActivityAt: this.lastActivity(live) }, event);
    try {
      const written = await store.microvms.update(receipt ? { next, receipt } : { next });
      live.recordedUse = used;
      live.become(written, clock.monotonic());
      log.info(
        { microvmId: next.id, from: phaseOf(before), to: phaseOf(written), event: event.kind },
        "microvm changed",
      );
    } catch (err) {
      if (err instanceof StaleWriteError) await this.#reread(live);
      throw err;
    } finally {
      this.#forgetIfEnded(live);
    }
    return effects;
  }

  /** As `apply`, for what has happened already: offered until the database takes it. */
  settle(live: LiveMicrovm, event: MicrovmEvent, receipt?: Receipt): Promise<readonly Effect[]> {
    return untilStored(() => this.apply(live, event, receipt), this.#deps);
  }

  /** By the wall clock. */
  lastActivity(live: LiveMicrovm): Date {
    const { clock } = this.#deps;
    if (live.lastUsed === live.recordedUse) return live.vm.lastActivityAt;
    return new Date(Math.round(clock.now() - (clock.monotonic() - live.lastUsed)));
  }

  /** Microvms that take the host's memory now, those included that are about to. */
  #occupied(): number {
    let count = this.#starting.size;
    for (const { vm } of this.#live.values()) if (this.#takesMemory(vm)) count++;
    return count;
  }

  /** One that is about to is counted as that, and not twice when it is written before its room is given back. */
  #takesMemory(vm: Microvm): boolean {
    return !WITHOUT_MEMORY.has(phaseOf(vm)) && !this.#starting.has(vm.id);
  }

  #track(vm: Microvm): void {
    const live = new LiveMicrovm(vm, this.#deps.clock.monotonic());
    this.#live.set(vm.id, live);
    this.#onLive(live);
  }

  async #reread(live: LiveMicrovm): Promise<void> {
    const row = await this.#deps.store.microvms.find(live.vm.id);
    if (row) live.become(row, this.#deps.clock.monotonic());
  }

  #forgetIfEnded(live: LiveMicrovm): void {
    if (live.vm.state === "TERMINATED") this.#live.delete(live.vm.id);
  }
}
