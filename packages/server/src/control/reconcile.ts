import type { HostClient, InventoryItem } from "../host/host-client.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { repeat } from "../lib/repeat.ts";
import type { Store } from "../store/store.ts";
import type { Checkpoints } from "./checkpoint/checkpoints.ts";
import type { Deletions } from "./image/deletions.ts";
import type { Templates } from "./image/templates.ts";
import type { Fleet } from "./microvm/fleet.ts";
import type { Lifecycle } from "./microvm/lifecycle.ts";
import type { LiveMicrovm } from "./microvm/live.ts";
import { exitReason, REASON } from "./microvm/reason.ts";
import { type Effect, type MicrovmEvent, type Phase, phaseOf } from "./microvm/state.ts";
import type { SteadyTime } from "./steady-time.ts";

const INTERVAL_MS = 5000;

/** What the host's disk has of a microvm. */
type Found = InventoryItem["state"] | "nothing";

/**
 * How a row and what the host has are brought together. `events` are written one after the other; `redo` repeats what
 * an interrupted effect left undone. Decided by data alone, so that a crash in the middle leads here again.
 */
type Verdict =
  | { readonly kind: "keep" }
  | { readonly kind: "events"; readonly events: readonly MicrovmEvent[] }
  | { readonly kind: "redo" }
  /** The host's leftovers go first. */
  | { readonly kind: "clear and redo" };

export interface ReconcilerDeps {
  readonly fleet: Fleet;
  readonly lifecycle: Lifecycle;
  readonly checkpoints: Checkpoints;
  readonly deletions: Pick<Deletions, "reconcile">;
  readonly templates: Pick<Templates, "reconcile">;
  readonly host: Pick<HostClient, "inventory" | "terminate">;
  readonly store: Pick<Store, "microvms">;
  readonly clock: Clock;
  readonly steady: SteadyTime;
  readonly log: Log;
  readonly shutdown: AbortSignal;
}

/** Finishes or undoes what a crash, a restart or a failing host left between row and instance. */
export class Reconciler {
  readonly #deps: ReconcilerDeps;
  /** Until the first look is over, what is missing went missing while no server ran. */
  #first = true;

  constructor(deps: ReconcilerDeps) {
    this.#deps = deps;
  }

  /** Looks every few seconds until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    const failed = (err: unknown): void => {
      if (!signal.aborted) log.error({ err }, "reconciliation failed, to be repeated");
    };
    await repeat(clock, INTERVAL_MS, () => this.reconcile(), failed, signal);
  }

  /**
   * One look at every microvm, instance, checkpoint, image and template that nobody works on. Resolves when what the rows say is true; work
   * on the host that follows from it goes on.
   * @throws when the host cannot say what it has
   */
  async reconcile(): Promise<void> {
    const { fleet, checkpoints, deletions, templates, host, log } = this.#deps;
    // What changes after this moment is newer than the inventory and is left alone.
    const before = new Map(
      fleet.all().flatMap((live) => (fleet.busy(live.vm.id) ? [] : [[live, live.vm.generation] as const])),
    );
    const inventory = new Map((await host.inventory()).map((item) => [item.microvmId, item.state]));
    const verdicts: Promise<void>[] = [];
    for (const [live, generation] of before)
      if (!fleet.busy(live.vm.id))
        verdicts.push(this.#reconcileOne(live, generation, inventory.get(live.vm.id) ?? "nothing"));
    for (const id of inventory.keys()) if (!fleet.get(id) && !fleet.busy(id)) verdicts.push(this.#removeOrphan(id));
    for (const result of await Promise.allSettled(verdicts))
      if (result.status === "rejected") log.error({ err: result.reason }, "a microvm could not be reconciled");
    this.#first = false;
    await checkpoints.reconcile();
    await deletions.reconcile();
    await templates.reconcile();
  }

  #reconcileOne(live: LiveMicrovm, generation: number, found: Found): Promise<void> {
    const { fleet, lifecycle, log } = this.#deps;
    return lifecycle.begin("reconcile", live.vm.id, async () => {
      if (live.vm.generation !== generation) return undefined;
      const phase = phaseOf(live.vm);
      const verdict = this.#judge(live, phase, found);
      if (verdict.kind === "keep") return undefined;
      log.warn({ microvmId: live.vm.id, phase, found, verdict: verdict.kind }, "microvm and host disagree");
      if (verdict.kind !== "events") return () => this.#redo(live, phase, found, verdict.kind === "clear and redo");
      let effects: readonly Effect[] = [];
      // Of several events the last one counts: those before it stand for what the host has done already.
      for (const event of verdict.events) effects = await fleet.apply(live, event);
      return () => lifecycle.perform(live, effects);
    });
  }

  async #redo(live: LiveMicrovm, phase: Phase, found: Found, clear: boolean): Promise<void> {
    const { lifecycle, host, shutdown } = this.#deps;
    if (clear) await host.terminate(live.vm.id, {}, shutdown);
    if (phase === "PENDING") await lifecycle.launch(live);
    else if (phase === "RESUMING") await lifecycle.restore(live);
    else if (phase === "ROLLING_BACK" || phase === "ROLLING_BACK_SUSPENDED")
      await lifecycle.rollBack(live, found === "broken");
    else await lifecycle.end(live);
  }

  #judge(live: LiveMicrovm, phase: Phase, found: Found): Verdict {
    const { steady } = this.#deps;
    const { spec } = live.vm;
    const keep: Verdict = { kind: "keep" };
    const events = (...list: MicrovmEvent[]): Verdict => ({ kind: "events", events: list });
    const fail = (reason: string): Verdict => events({ kind: "fail", reason });
    switch (phase) {
      case "PENDING":
        if (found === "nothing") return { kind: "redo" };
        // Whether the run hook answered 200 died with the server that asked.
        if (spec.hooks.run) return fail(REASON.launchInterrupted);
        return found === "running" ? events({ kind: "launched" }) : { kind: "clear and redo" };
      case "RUNNING":
        if (found === "running") return keep;
        if (live.exit) return fail(exitReason(live.exit));
        return fail(this.#first ? REASON.hostRestarted : REASON.instanceLost);
      case "SUSPENDING":
        if (found === "suspended") return events({ kind: "suspended", at: steady.now() });
        if (found === "running") return events({ kind: "suspendFailed", reason: REASON.suspendInterrupted });
        return fail(REASON.instanceLost);
      case "SUSPENDED":
        if (found === "suspended") return keep;
        // It has gone on since its snapshot: what it did must not be lost.
        if (found === "running") return events({ kind: "resume" }, { kind: "resumed" });
        return fail(REASON.snapshotLost);
      case "RESUMING":
        if (found === "running") return events({ kind: "resumed" });
        return found === "suspended" ? { kind: "redo" } : fail(REASON.snapshotLost);
      case "ROLLING_BACK":
        if (found === "running") return events({ kind: "rollbackFailed", reason: REASON.rollbackInterrupted });
        // One that ran can be found suspended at the checkpoint only.
        if (found === "suspended") return events({ kind: "rolledBack" });
        return found === "broken" ? { kind: "redo" } : fail(REASON.instanceLost);
      case "ROLLING_BACK_SUSPENDED":
        return found === "nothing" ? fail(REASON.snapshotLost) : { kind: "redo" };
      case "TERMINATING":
        return { kind: "redo" };
      case "TERMINATED":
        return keep;
      default:
        return phase satisfies never;
    }
  }

  /** An instance that no live row wants. Its row is asked again under its lock: it may be about to be written. */
  #removeOrphan(id: string): Promise<void> {
    const { fleet, lifecycle, host, store, log, shutdown } = this.#deps;
    return lifecycle.begin("remove orphan", id, async () => {
      if (fleet.get(id)) return undefined;
      const row = await store.microvms.find(id);
      if (row && row.state !== "TERMINATED") return undefined;
      log.warn({ microvmId: id }, "instance without a microvm is removed");
      return async () => {
        await host.terminate(id, {}, shutdown);
      };
    });
  }
}
