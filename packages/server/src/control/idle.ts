import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { repeat } from "../lib/repeat.ts";
import type { Store } from "../store/store.ts";
import type { Fleet } from "./microvm/fleet.ts";
import type { Lifecycle } from "./microvm/lifecycle.ts";
import type { LiveMicrovm } from "./microvm/live.ts";
import { REASON } from "./microvm/reason.ts";
import { type MicrovmEvent, phaseOf } from "./microvm/state.ts";
import type { SteadyTime } from "./steady-time.ts";

const SWEEP_MS = 1000;
/** How coarsely the store knows when a microvm was last used. */
const RECORD_ACTIVITY_MS = 10_000;

export interface IdleDeps {
  readonly fleet: Fleet;
  readonly lifecycle: Lifecycle;
  readonly store: Pick<Store, "microvms">;
  readonly clock: Clock;
  readonly steady: SteadyTime;
  readonly log: Log;
}

/**
 * The policies that time decides: suspend what is idle, end what has been suspended or alive for too long. Only bytes
 * through the endpoint count as use. After a restart every running microvm gets a fresh idle period.
 */
export class IdlePolicies {
  readonly #deps: IdleDeps;
  #recordedAt: number;

  constructor(deps: IdleDeps) {
    this.#deps = deps;
    this.#recordedAt = deps.clock.monotonic();
  }

  /** Looks at every microvm about once a second until the signal. Resolves when it has stopped. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    const failed = (err: unknown): void => log.error({ err }, "sweep of idle microvms failed");
    await repeat(clock, SWEEP_MS, () => this.sweep(), failed, signal);
  }

  /** One look. Begins what is due and waits for none of it. */
  async sweep(): Promise<void> {
    const { fleet, clock, steady, log } = this.#deps;
    if (await steady.absorbJump()) {
      log.warn("the wall clock jumped: deadlines are moved with it");
      return;
    }
    for (const live of fleet.all()) this.#act(live);
    if (clock.monotonic() - this.#recordedAt >= RECORD_ACTIVITY_MS) await this.#recordActivity();
  }

  /** Begins what is due. One microvm that is slow to end must not keep the others waiting. */
  #act(live: LiveMicrovm): void {
    const { fleet, lifecycle, steady, log } = this.#deps;
    const { vm } = live;
    const now = steady.now();
    const failed = (err: unknown): void => log.warn({ err, microvmId: vm.id }, "a due change could not be written");
    if (now >= vm.deadline) {
      lifecycle.terminate(live, REASON.lifetime).catch(failed);
    } else if (fleet.busy(vm.id)) {
      return; // whoever works on it comes first
    } else if (
      vm.state === "SUSPENDED" &&
      phaseOf(vm) === "SUSPENDED" &&
      vm.expiresAt !== null &&
      now >= vm.expiresAt
    ) {
      lifecycle.terminate(live, REASON.lifetime).catch(failed);
    } else if (this.#suspendWhenIdle(live)) {
      lifecycle.change(live, () => this.#suspendWhenIdle(live)).catch(failed);
    }
  }

  /** Asked again under the microvm's lock: bytes may have come meanwhile. */
  #suspendWhenIdle(live: LiveMicrovm): MicrovmEvent | undefined {
    const { vm } = live;
    const policy = vm.spec.idlePolicy;
    if (vm.state !== "RUNNING" || !policy) return undefined;
    if (this.#deps.clock.monotonic() - live.lastUsed < policy.maxIdleDurationSeconds * 1000) return undefined;
    return suspendOrEnd(policy);
  }

  async #recordActivity(): Promise<void> {
    const { fleet, store, clock } = this.#deps;
    this.#recordedAt = clock.monotonic();
    const used = fleet.all().filter((live) => live.lastUsed !== live.recordedUse);
    const marks = used.map((live) => live.lastUsed);
    await store.microvms.recordActivity(new Map(used.map((live) => [live.vm.id, fleet.lastActivity(live)])));
    used.forEach((live, index) => {
      live.recordedUse = marks[index] ?? live.recordedUse;
    });
  }
}

/** A suspended duration of zero means: do not keep it. */
export function suspendOrEnd(policy: { readonly suspendedDurationSeconds: number } | null): MicrovmEvent {
  return policy?.suspendedDurationSeconds === 0 ? { kind: "terminate", reason: REASON.lifetime } : { kind: "suspend" };
}
