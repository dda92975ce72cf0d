import type { Receipt } from "@torpor/protocol";
import { HookError, type HostClient, HostError, type InstanceExit } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import type { Microvm } from "../../store/microvm.ts";
import type { SteadyTime } from "../steady-time.ts";
import type { Tasks } from "../tasks.ts";
import type { Fleet } from "./fleet.ts";
import type { LiveMicrovm } from "./live.ts";
import { exitReason, hookReason, REASON } from "./reason.ts";
import { allows, type Effect, type MicrovmEvent, phaseOf } from "./state.ts";

export interface LifecycleDeps {
  readonly fleet: Fleet;
  readonly host: HostClient;
  readonly clock: Clock;
  readonly steady: SteadyTime;
  readonly tasks: Tasks;
  readonly log: Log;
  /** Aborted when the server closes: work on hosts is left to the next server's reconciler. */
  readonly shutdown: AbortSignal;
}

/** How a call to the host ended. `interrupted`: aborted on our side, so what the host did is not known. */
type Attempt =
  | { readonly kind: "done"; readonly receipt: Receipt }
  | { readonly kind: "failed"; readonly error: unknown }
  | { readonly kind: "interrupted" };

/**
 * Drives microvms from state to state: intent written, host called, outcome written. Methods resolve when the intent
 * is on disk (`resume`: when it is over); the rest goes on by itself.
 */
export class Lifecycle {
  readonly #deps: LifecycleDeps;

  constructor(deps: LifecycleDeps) {
    this.#deps = deps;
    deps.host.onExit((id, exit) => this.#exited(id, exit));
  }

  /** Writes a PENDING microvm by `insert` and launches it. @throws TorporError `capacity` */
  start(vm: Microvm, insert: () => Promise<void>): Promise<void> {
    return this.begin("launch", vm.id, async () => {
      const { fleet } = this.#deps;
      const live = await fleet.takeRoom(() => fleet.add(vm, insert));
      return () => this.launch(live);
    });
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

  async #resumeOnce(live: LiveMicrovm): Promise<void> {
    const { fleet, tasks } = this.#deps;
    const attempt = Promise.withResolvers<void>();
    tasks.start("resume", () =>
      fleet
        .exclusive(live.vm.id, async () => {
          if (!allows(live.vm, "resume")) return;
          const effects = await fleet.takeRoom(() => fleet.apply(live, { kind: "resume" }));
          await this.perform(live, effects);
        })
        .then(attempt.resolve, attempt.reject),
    );
    await attempt.promise;
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
    const { host, log } = this.#deps;
    const { run } = vm.spec.hooks;
    const spec = {
      microvmId: vm.id,
      templateId: vm.templateId,
      ...(run && { runHook: { ...run, payload: vm.runHookPayload } }),
    };
    live.exit = undefined;
    const attempt = await this.#attempt(live, (signal) => host.launch(spec, signal));
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done") return await this.#settle(live, { kind: "launched" }, attempt.receipt);
    log.warn({ err: attempt.error, microvmId: vm.id }, "launch failed");
    await this.#settle(live, { kind: "fail", reason: launchReason(live, attempt.error) });
  }

  async #suspend(live: LiveMicrovm): Promise<void> {
    const { host, steady, log } = this.#deps;
    const { id, spec } = live.vm;
    const hook = spec.hooks.suspend;
    const attempt = await this.#attempt(live, (signal) => host.suspend(id, hook ? { hook } : {}, signal));
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done")
      return await this.#settle(live, { kind: "suspended", at: steady.now() }, attempt.receipt);
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
    const { host, clock, log } = this.#deps;
    const { id, spec } = live.vm;
    const hook = spec.hooks.resume;
    live.exit = undefined;
    const attempt = await this.#attempt(live, (signal) => host.resume(id, hook ? { hook } : {}, signal));
    if (attempt.kind === "interrupted") return;
    if (attempt.kind === "done") return await this.#settle(live, { kind: "resumed" }, attempt.receipt);
    const { error } = attempt;
    log.warn({ err: error, microvmId: id }, "resume failed");
    if (live.exit) return await this.#settle(live, { kind: "fail", reason: exitReason(live.exit) });
    if (error instanceof HookError) return await this.#settle(live, { kind: "fail", reason: hookReason(error) });
    live.resumeFailedAt = clock.monotonic();
    await this.#settle(live, { kind: "resumeFailed" });
    throw error;
  }

  /** Ends a TERMINATING microvm's instance; if the host cannot, the reconciler comes back to it. */
  async end(live: LiveMicrovm): Promise<void> {
    const { vm } = live;
    if (vm.state !== "TERMINATING") return;
    const { host, clock, log } = this.#deps;
    const hook = vm.hook ? vm.spec.hooks.terminate : undefined;
    const attempt = await this.#attempt(live, (signal) => host.terminate(vm.id, hook ? { hook } : {}, signal));
    if (attempt.kind === "done")
      return await this.#settle(live, { kind: "gone", at: new Date(clock.now()) }, attempt.receipt);
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

  async #attempt(live: LiveMicrovm, call: (signal: AbortSignal) => Promise<Receipt>): Promise<Attempt> {
    const work = new AbortController();
    const signal = AbortSignal.any([work.signal, this.#deps.shutdown]);
    live.work = work;
    try {
      signal.throwIfAborted();
      return { kind: "done", receipt: await call(signal) };
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
  return REASON.launchFailed;
}
