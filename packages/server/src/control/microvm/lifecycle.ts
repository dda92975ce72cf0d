import type { Receipt } from "@torpor/protocol";
import { DamagedError, HookError, type HostClient, HostError, type InstanceExit } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import { TorporError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import type { Microvm } from "../../store/microvm.ts";
import type { GuestCredentials } from "../role/guest-credentials.ts";
import type { SteadyTime } from "../steady-time.ts";
import type { Tasks } from "../tasks.ts";
import type { Fleet } from "./fleet.ts";
import type { LiveMicrovm } from "./live.ts";
import { exitReason, hookReason, REASON } from "./reason.ts";
import { allows, type Effect, type MicrovmEvent, phaseOf } from "./state.ts";

export interface LifecycleDeps {
  readonly fleet: Fleet;
  readonly host: HostClient;
  readonly credentials: Pick<GuestCredentials, "at">;
  readonly clock: Clock;
  readonly steady: SteadyTime;
  readonly tasks: Tasks;
  readonly log: Log;
  /** Aborted when the server closes: work on hosts is left to the next server's reconciler. */
  readonly shutdown: AbortSignal;
}

/** How a call to the host ended. `interrupted`: aborted on our side, so what the host did is not known. */
export type Attempt<T> =
  | { readonly kind: "done"; readonly result: T }
  | { readonly kind: "failed"; readonly error: unknown }
  | { readonly kind: "interrupted" };

/** The rollback itself could not be done, for the reason that is the cause. */
export class RollbackError extends Error {
  override readonly name = "RollbackError";
  constructor(microvmId: string, cause: unknown) {
    super(`microvm ${microvmId} could not be rolled back`, { cause });
  }
}

/** The host has touched nothing when it gives one of these reasons for not rolling back. */
const UNTOUCHED: readonly HostError["reason"][] = ["not_found", "incompatible", "corrupt"];

/**
 * Drives microvms from state to state: intent written, host called, outcome written. Methods resolve when the intent
 * is on disk (`resume`, `rollback`: when it is over); the rest goes on by itself.
 */
export class Lifecycle {
  readonly #deps: LifecycleDeps;

  constructor(deps: LifecycleDeps) {
    this.#deps = deps;
    deps.host.onExit((id, exit) => this.#exited(id, exit));
  }

  /**
   * Writes PENDING microvms by `insert`, all or none, and launches them side by side.
   * @throws TorporError `quota`, `capacity`
   */
  async start(vms: readonly Microvm[], insert: () => Promise<void>): Promise<void> {
    const { fleet } = this.#deps;
    const written = Promise.withResolvers<void>();
    const begun = vms.map((vm) =>
      this.begin("launch", vm.id, async () => {
        await written.promise;
        const live = fleet.get(vm.id);
        return live && (() => this.launch(live));
      }),
    );
    // Their locks are taken: nobody meets them before they are launched.
    fleet.takeRoom(vms, () => fleet.add(vms, insert)).then(written.resolve, written.reject);
    await Promise.all(begun);
  }

  /** `decide` sees the microvm when nobody else works on it, and may throw to refuse. */
  change(live: LiveMicrovm, decide: (vm: Microvm) => MicrovmEvent | undefined): Promise<void> {
    return this.begin("change", live.vm.id, async () => {
      const event = decide(live.vm);
      if (!event) return undefined;
      const effects = await this.#deps.fleet.apply(live, event);
      return () => this.perform(live, effects);
    });
  }

  /** Whatever else is being done for the microvm is broken off. Terminating what ends already changes nothing. */
  async terminate(live: LiveMicrovm, reason: string): Promise<void> {
    if (!allows(live.vm, "terminate")) return;
    live.work?.abort(new Error("the microvm is to be terminated"));
    live.termination ??= this.change(live, (vm) =>
      allows(vm, "terminate") ? { kind: "terminate", reason } : undefined,
    ).finally(() => {
      live.termination = undefined;
    });
    await live.termination;
  }

  /**
   * Resumes a suspended microvm, once however many ask; resolves when it is RUNNING or ended.
   * @throws HostError when it could not be restored and is suspended as before; TorporError when there is no room for
   * it or the database refused
   */
  resume(live: LiveMicrovm): Promise<void> {
    live.resume ??= this.#resumeOnce(live).finally(() => {
      live.resume = undefined;
    });
    return live.resume;
  }

  #resumeOnce(live: LiveMicrovm): Promise<void> {
    const { fleet } = this.#deps;
    return this.complete("resume", live.vm.id, async () => {
      if (!allows(live.vm, "resume")) return;
      const effects = await fleet.takeRoom([live.vm], () => fleet.apply(live, { kind: "resume" }));
      await this.perform(live, effects);
    });
  }

  /**
   * Rolls a RUNNING or SUSPENDED microvm back; resolves when it is as it was at the checkpoint, RUNNING again if it ran,
   * or ended. `check` sees it when nobody else works on it, and throws to refuse.
   * @throws RollbackError; HostError when it was rolled back but could not be resumed; TorporError when it was broken off;
   * what `check` throws; CheckpointUnavailableError
   */
  rollback(live: LiveMicrovm, checkpointId: string, check: (vm: Microvm) => void): Promise<void> {
    const { fleet, steady } = this.#deps;
    return this.complete("rollback", live.vm.id, async () => {
      check(live.vm);
      await this.perform(live, await fleet.apply(live, { kind: "rollback", checkpointId, at: steady.now() }));
      if (live.vm.state === "SUSPENDED" && live.vm.rollbackTo !== null)
        throw new TorporError("unavailable", `The rollback of the MicroVM ${live.vm.id} was interrupted.`);
    });
  }

  /** Exclusive work on a microvm that goes on whether or not somebody waits for its outcome. */
  complete<T>(name: string, id: string, work: () => Promise<T>): Promise<T> {
    const { fleet, tasks } = this.#deps;
    const outcome = Promise.withResolvers<T>();
    tasks.start(name, () => fleet.exclusive(id, work).then(outcome.resolve, outcome.reject));
    return outcome.promise;
  }

  /** Resolves or throws when `prepare` does; the work that it returns follows by itself, both exclusively. */
  begin(name: string, id: string, prepare: () => Promise<(() => Promise<void>) | undefined>): Promise<void> {
    const { fleet, tasks } = this.#deps;
    const begun = Promise.withResolvers<void>();
    tasks.start(name, () =>
      fleet.exclusive(id, async () => {
        let work: (() => Promise<void>) | undefined;
        try {
          work = await prepare();
        } catch (err) {
          begun.reject(err);
          return;
        }
        begun.resolve();
        await work?.();
      }),
    );
    return begun.promise;
  }

  /** What a written step asks of the host. Within the fleet's `exclusive` only, as all below. */
  async perform(live: LiveMicrovm, effects: readonly Effect[]): Promise<void> {
    for (const effect of effects) {
      switch (effect) {
        case "suspend":
          await this.#suspend(live);
          break;
        case "resume":
          await this.restore(live);
          break;
        case "rollback":
          await this.rollBack(live);
          break;
        case "terminate":
          await this.end(live);
          break;
        default:
          effect satisfies never;
      }
    }
  }

  async launch(live: LiveMicrovm): Promise<void> {
    const { vm } = live;
    if (vm.state !== "PENDING") return;
    const { host, credentials, log } = this.#deps;
    const { run } = vm.spec.hooks;
    const spec = {
      microvmId: vm.id,
      templateId: vm.templateId,
      ...(vm.spec.egress && { egress: vm.spec.egress }),
      ...(vm.fork && { checkpointId: vm.fork.checkpointId }),
      ...(run && { runHook: { ...run, payload: vm.runHookPayload } }),
    };
    live.exit = undefined;
    const attempt = await this.attempt(live, async (signal) =>
      host.launch({ ...spec, ...(await credentials.at(live, signal)) }, signal),
    );
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done") return await this.#settle(live, { kind: "launched" }, attempt.result);
    log.warn({ err: attempt.error, microvmId: vm.id }, "launch failed");
    await this.#settle(live, { kind: "fail", reason: launchReason(live, attempt.error) });
  }

  async #suspend(live: LiveMicrovm): Promise<void> {
    const { host, steady, log } = this.#deps;
    const { id, spec } = live.vm;
    const hook = spec.hooks.suspend;
    const attempt = await this.attempt(live, (signal) => host.suspend(id, hook ? { hook } : {}, signal));
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done")
      return await this.#settle(live, { kind: "suspended", at: steady.now() }, attempt.result);
    const { error } = attempt;
    log.warn({ err: error, microvmId: id }, "suspend failed");
    if (live.exit) return await this.#settle(live, { kind: "fail", reason: exitReason(live.exit) });
    if (error instanceof HookError) return await this.#settle(live, { kind: "fail", reason: hookReason(error) });
    if (error instanceof HostError)
      return await this.#settle(live, {
        kind: "suspendFailed",
        reason: error.reason === "no_space" ? REASON.suspendNoRoom : REASON.suspendFailed,
      });
    // Not a failure that the host has promised to name: only its disk can tell, and the reconciler asks it.
  }

  /**
   * The host's part of a resume.
   * @throws HostError as `resume`
   */
  async restore(live: LiveMicrovm): Promise<void> {
    const { host, credentials, clock, log } = this.#deps;
    const { id, spec } = live.vm;
    const hook = spec.hooks.resume;
    live.exit = undefined;
    const attempt = await this.attempt(live, async (signal) =>
      host.resume(id, { ...(hook && { hook }), ...(await credentials.at(live, signal)) }, signal),
    );
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done") return await this.#settle(live, { kind: "resumed" }, attempt.result);
    const { error } = attempt;
    log.warn({ err: error, microvmId: id }, "resume failed");
    if (live.exit) return await this.#settle(live, { kind: "fail", reason: exitReason(live.exit) });
    if (error instanceof HookError) return await this.#settle(live, { kind: "fail", reason: hookReason(error) });
    live.resumeFailedAt = clock.monotonic();
    await this.#settle(live, { kind: "resumeFailed" });
    throw error;
  }

  /**
   * The host's part of a rollback, and the resume that follows one of a microvm that ran. `broken`: an earlier try has
   * ended the instance already.
   * @throws RollbackError, HostError as `rollback`
   */
  async rollBack(live: LiveMicrovm, broken = false): Promise<void> {
    const { host, log } = this.#deps;
    const { vm } = live;
    if (vm.state !== "SUSPENDED" || vm.rollbackTo === null) return;
    const { id, rollbackTo, resuming } = vm;
    const attempt = await this.attempt(live, (signal) => host.rollback(id, rollbackTo, signal));
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done") {
      live.resumeFailedAt = undefined; // that was another restore point
      return await this.#settle(live, { kind: "rolledBack" }, attempt.result);
    }
    const { error } = attempt;
    log.warn({ err: error, microvmId: id, checkpointId: rollbackTo }, "rollback failed");
    const hopeless = error instanceof HostError && UNTOUCHED.includes(error.reason);
    if (hopeless && broken) await this.#settle(live, { kind: "fail", reason: REASON.instanceLost });
    else if (hopeless || !(resuming || broken))
      await this.#settle(live, { kind: "rollbackFailed", reason: REASON.rollbackFailed });
    // Otherwise only the host's disk can tell what was touched: the reconciler asks it, and tries again.
    throw new RollbackError(id, error);
  }

  /** Ends a TERMINATING microvm's instance; if the host cannot, the reconciler comes back to it. */
  async end(live: LiveMicrovm): Promise<void> {
    const { vm } = live;
    if (vm.state !== "TERMINATING") return;
    const { host, clock, log } = this.#deps;
    const hook = vm.hook ? vm.spec.hooks.terminate : undefined;
    const attempt = await this.attempt(live, (signal) => host.terminate(vm.id, hook ? { hook } : {}, signal));
    if (attempt.kind === "done")
      return await this.#settle(live, { kind: "gone", at: new Date(clock.now()) }, attempt.result);
    if (attempt.kind === "failed")
      log.error({ err: attempt.error, microvmId: vm.id }, "terminate failed, to be repeated");
  }

  #exited(id: string, exit: InstanceExit): void {
    const { fleet, tasks, log } = this.#deps;
    const live = fleet.get(id);
    if (!live) return;
    log.info({ microvmId: id, exit }, "instance ended by itself");
    live.exit = exit;
    // Those who work on it now see the exit when the host's call fails; this is for when nobody does.
    tasks.start("exit", () =>
      fleet.exclusive(id, async () => {
        if (live.exit === exit && phaseOf(live.vm) === "RUNNING")
          await this.#settle(live, { kind: "fail", reason: exitReason(exit) });
      }),
    );
  }

  async #settle(live: LiveMicrovm, event: MicrovmEvent, receipt?: Receipt): Promise<void> {
    await this.perform(live, await this.#deps.fleet.settle(live, event, receipt));
  }

  /** A call to the host, which is aborted when the microvm is to be terminated or the server closes. */
  async attempt<T>(live: LiveMicrovm, call: (signal: AbortSignal) => Promise<T>): Promise<Attempt<T>> {
    const work = new AbortController();
    const signal = AbortSignal.any([work.signal, this.#deps.shutdown]);
    live.work = work;
    try {
      signal.throwIfAborted();
      return { kind: "done", result: await call(signal) };
    } catch (error) {
      return signal.aborted ? { kind: "interrupted" } : { kind: "failed", error };
    } finally {
      live.work = undefined;
    }
  }
}

function launchReason(live: LiveMicrovm, error: unknown): string {
  if (error instanceof HookError) return hookReason(error);
  if (live.exit) return exitReason(live.exit);
  if (error instanceof HostError && (error.reason === "capacity" || error.reason === "no_space"))
    return REASON.launchNoRoom;
  if (live.vm.fork && error instanceof HostError && UNTOUCHED.includes(error.reason))
    return error instanceof DamagedError ? `${REASON.forkUnusable} ${error.message}.` : REASON.forkUnusable;
  return REASON.launchFailed;
}
