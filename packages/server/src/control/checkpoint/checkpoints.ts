import type { HostClient } from "../../host/host-client.ts";
import { DamagedError, HostError } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import { TorporError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import type { Checkpoint } from "../../store/checkpoint.ts";
import type { CheckpointFacts } from "../../store/checkpoints.ts";
import type { Microvm } from "../../store/microvm.ts";
import type { Store } from "../../store/store.ts";
import type { Fleet } from "../microvm/fleet.ts";
import type { Lifecycle } from "../microvm/lifecycle.ts";
import type { LiveMicrovm } from "../microvm/live.ts";
import { REASON } from "../microvm/reason.ts";
import { untilStored } from "../until-stored.ts";

export interface CheckpointDeps {
  readonly fleet: Fleet;
  readonly lifecycle: Lifecycle;
  readonly host: Pick<HostClient, "checkpoint" | "checkpoints" | "deleteCheckpoint">;
  readonly store: Pick<Store, "checkpoints">;
  readonly clock: Clock;
  readonly log: Log;
  readonly shutdown: AbortSignal;
}

/** What its maker decides about a checkpoint; the rest is its microvm's. */
export interface CheckpointWish extends Pick<Checkpoint, "id" | "name" | "internal"> {
  /** Of the microvm's restore point before its newest. */
  readonly previous?: boolean;
}

/**
 * Makes and deletes checkpoints: row, host, row. What a crash leaves between any two of these is undone (a making) or
 * finished (a deletion) by `reconcile`.
 */
export class Checkpoints {
  readonly #deps: CheckpointDeps;
  /** Internal checkpoints that forks are being made from: they look unused until these are written. */
  readonly #kept = new Set<string>();

  constructor(deps: CheckpointDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves when the checkpoint is AVAILABLE; `written`, when its row is there. `check` sees the microvm when nobody
   * else works on it, and throws to refuse.
   * @throws HostError when the host could not make it, TorporError when it was broken off; what `check` throws
   */
  make(live: LiveMicrovm, wish: CheckpointWish, check: (vm: Microvm) => void, written = (): void => {}): Promise<void> {
    const { lifecycle, host, store, clock, log, shutdown } = this.#deps;
    const { id, previous = false } = wish;
    return lifecycle.complete("checkpoint", live.vm.id, async () => {
      check(live.vm);
      const { vm } = live;
      await store.checkpoints.insert(checkpointOf(vm, wish, new Date(clock.now())));
      written();
      const attempt = await lifecycle.attempt(live, (signal) => host.checkpoint(vm.id, id, { previous }, signal));
      if (attempt.kind === "done") {
        const made = { kind: "made", ...attempt.result } as const;
        await untilStored(() => store.checkpoints.settle(id, made), this.#deps);
        log.info({ microvmId: vm.id, checkpointId: id }, "checkpoint made");
        return;
      }
      if (attempt.kind === "interrupted") {
        // When the server closes, the next one undoes it.
        if (!shutdown.aborted) await this.#undo(wish, REASON.checkpointInterrupted);
        throw new TorporError("unavailable", `The checkpoint of the MicroVM ${vm.id} was interrupted.`);
      }
      log.warn({ err: attempt.error, microvmId: vm.id, checkpointId: id }, "checkpoint failed");
      await this.#undo(wish, failureReason(attempt.error));
      throw attempt.error;
    });
  }

  /** Keeps an internal checkpoint from being tidied away until `release`. */
  keep(id: string): void {
    this.#kept.add(id);
  }

  /** Deletes an internal checkpoint, if it is there: its forks have started, or there will be none. */
  async release(id: string): Promise<void> {
    this.#kept.delete(id);
    await this.delete(id);
  }

  /** Deletes it unless that would take it from somebody. If the host cannot, the reconciler comes back to it. */
  async delete(id: string): Promise<"deleted" | "in use" | "creating"> {
    return await this.#deps.lifecycle.complete("delete checkpoint", id, async () => {
      const begun = await this.#deps.store.checkpoints.beginDeletion(id);
      if (begun === "in use" || begun === "creating") return begun;
      if (begun === "deleting") await this.#remove(id);
      return "deleted";
    });
  }

  /**
   * One look at every checkpoint that nobody works on, in the store and on the host.
   * @throws when the host cannot say what it has
   */
  async reconcile(): Promise<void> {
    const { host, store, log } = this.#deps;
    const before = await store.checkpoints.states();
    const onHost = new Set(await host.checkpoints());
    // Read again: what the host has now had its row before.
    const rows = await store.checkpoints.states();
    const work = [...rows].map(async ([id, facts]) => {
      const wasAvailable = before.get(id)?.state === "AVAILABLE";
      await this.#reconcileOne(id, facts, wasAvailable && !onHost.has(id));
    });
    for (const id of onHost) {
      const row = rows.get(id);
      if (row && row.state !== "FAILED") continue;
      log.warn({ checkpointId: id }, "checkpoint without a row is removed");
      work.push(host.deleteCheckpoint(id));
    }
    for (const result of await Promise.allSettled(work))
      if (result.status === "rejected") log.error({ err: result.reason }, "a checkpoint could not be reconciled");
  }

  async #reconcileOne(id: string, { microvmId, internal, state }: CheckpointFacts, lost: boolean): Promise<void> {
    const { fleet, lifecycle, store } = this.#deps;
    switch (state) {
      case "CREATING":
        if (fleet.busy(microvmId)) return; // whoever makes it holds its microvm
        return await lifecycle.complete("undo checkpoint", microvmId, async () => {
          if ((await store.checkpoints.find(id))?.state !== "CREATING") return;
          await this.#undo({ id, internal }, REASON.checkpointInterrupted);
        });
      case "AVAILABLE":
        if (lost) await store.checkpoints.lose(id, REASON.checkpointLost);
        else if (internal && !this.#kept.has(id)) await this.delete(id);
        return;
      case "FAILED":
        if (internal) await store.checkpoints.remove(id);
        return;
      case "DELETING":
        return await lifecycle.complete("delete checkpoint", id, () => this.#remove(id));
      default:
        return state satisfies never;
    }
  }

  /** Nothing is left of one that was not made, but for the reason on its row where somebody can see it. */
  async #undo({ id, internal }: Pick<CheckpointWish, "id" | "internal">, reason: string): Promise<void> {
    const { host, store, log } = this.#deps;
    try {
      await host.deleteCheckpoint(id);
    } catch (err) {
      log.error({ err, checkpointId: id }, "checkpoint that was not made could not be removed, to be repeated");
      return;
    }
    await untilStored(() => store.checkpoints.settle(id, { kind: "failed", reason }), this.#deps);
    if (internal) await store.checkpoints.remove(id);
  }

  async #remove(id: string): Promise<void> {
    const { host, store, log } = this.#deps;
    try {
      await host.deleteCheckpoint(id);
      await store.checkpoints.remove(id);
      log.info({ checkpointId: id }, "checkpoint deleted");
    } catch (err) {
      log.error({ err, checkpointId: id }, "checkpoint could not be deleted, to be repeated");
    }
  }
}

function checkpointOf(vm: Microvm, { id, name, internal }: CheckpointWish, createdAt: Date): Checkpoint {
  return {
    id,
    name,
    internal,
    accountId: vm.accountId,
    microvmId: vm.id,
    imageArn: vm.imageArn,
    imageVersion: vm.imageVersion,
    templateId: vm.templateId,
    spec: vm.spec,
    parentCheckpointId: vm.rolledBackTo ?? vm.fork?.checkpointId ?? null,
    createdAt,
    state: "CREATING",
  };
}

function failureReason(error: unknown): string {
  if (error instanceof DamagedError) return `${REASON.checkpointDamaged} ${error.message}.`;
  if (error instanceof HostError && error.reason === "not_found") return REASON.checkpointNoEarlier;
  const noRoom = error instanceof HostError && (error.reason === "no_space" || error.reason === "capacity");
  return noRoom ? REASON.checkpointNoRoom : REASON.checkpointFailed;
}
