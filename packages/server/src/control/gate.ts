import type { Duplex } from "node:stream";
import type { HostClient, Shell, ShellSpec } from "../host/host-client.ts";
import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Microvm } from "../store/microvm.ts";
import type { Store } from "../store/store.ts";
import { type Door, type EndpointGate, GateError, type Visit } from "./endpoint-gate.ts";
import { admitsHttp, admitsShell } from "./microvm/connectors.ts";
import type { Fleet } from "./microvm/fleet.ts";
import type { Lifecycle } from "./microvm/lifecycle.ts";
import type { LiveMicrovm } from "./microvm/live.ts";

/** Callers that wait for one microvm; more are turned away. */
const QUEUE_MAX = 1000;
/** Longer than a launch or resume with the longest hook. */
const ENTER_TIMEOUT_MS = 120_000;
/** After a failed resume requests are refused for so long, rather than each of them trying again. */
const RESUME_PAUSE_MS = 2000;

export interface GateDeps {
  readonly fleet: Fleet;
  readonly lifecycle: Lifecycle;
  readonly host: Pick<HostClient, "connect" | "openShell">;
  readonly store: Pick<Store, "microvms">;
  readonly clock: Clock;
  readonly shutdown: AbortSignal;
}

/** Lets user traffic in. RUNNING microvms are served from memory, without the database. */
export class Gate implements EndpointGate {
  readonly #deps: GateDeps;

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  async find(microvmId: string): Promise<Door | undefined> {
    const { fleet, store } = this.#deps;
    const vm = fleet.get(microvmId)?.vm ?? (await store.microvms.find(microvmId));
    if (!vm) return undefined;
    const { ingressConnectors } = vm.spec;
    return { label: vm.label, http: admitsHttp(ingressConnectors), shell: admitsShell(ingressConnectors) };
  }

  async enter(microvmId: string, signal: AbortSignal): Promise<Visit> {
    const live = this.#deps.fleet.get(microvmId);
    if (!live) throw terminated(microvmId);
    if (live.vm.state === "RUNNING") return this.#visit(live);
    if (live.queue >= QUEUE_MAX)
      throw new GateError("busy", `${QUEUE_MAX} requests wait for microvm ${microvmId} already`);
    live.queue++;
    const expired = new AbortController();
    const cancel = this.#deps.clock.after(ENTER_TIMEOUT_MS, () =>
      expired.abort(new GateError("timeout", `microvm ${microvmId} did not become ready in time`)),
    );
    try {
      return await this.#wait(live, AbortSignal.any([signal, expired.signal, this.#deps.shutdown]));
    } catch (err) {
      if (!this.#deps.shutdown.aborted) throw err;
      throw new GateError("busy", "the server is closing", { cause: err });
    } finally {
      cancel();
      live.queue--;
    }
  }

  async #wait(live: LiveMicrovm, signal: AbortSignal): Promise<Visit> {
    for (;;) {
      signal.throwIfAborted();
      const { vm } = live;
      switch (vm.state) {
        case "RUNNING":
          return this.#visit(live);
        case "PENDING":
        case "SUSPENDING":
          await live.changed(signal);
          break;
        case "SUSPENDED":
          if (vm.rollbackTo !== null && (vm.resuming || vm.spec.idlePolicy?.autoResumeEnabled))
            await live.changed(signal);
          else await this.#resume(live, vm, signal);
          break;
        case "TERMINATING":
        case "TERMINATED":
          throw terminated(vm.id);
        default:
          vm satisfies never;
      }
    }
  }

  /** Resolves when the microvm is worth another look. */
  async #resume(live: LiveMicrovm, vm: Microvm & { state: "SUSPENDED" }, signal: AbortSignal): Promise<void> {
    const { lifecycle, clock } = this.#deps;
    if (!vm.resuming && !live.resume) {
      if (!vm.spec.idlePolicy?.autoResumeEnabled)
        throw new GateError("suspended", `microvm ${vm.id} is suspended and does not resume by itself`);
      if (live.resumeFailedAt !== undefined && clock.monotonic() - live.resumeFailedAt < RESUME_PAUSE_MS)
        throw new GateError("resume_failed", `microvm ${vm.id} could not be resumed a moment ago`);
    }
    // A resume that another server began has no promise here; its end is a change of the row.
    if (vm.resuming && !live.resume) return await live.changed(signal);
    const resumed = lifecycle.resume(live).catch((err: unknown) => {
      throw new GateError("resume_failed", `microvm ${vm.id} could not be resumed: ${messageOf(err)}`, { cause: err });
    });
    await abortable(resumed, signal);
    if (live.vm.state === "TERMINATING" || live.vm.state === "TERMINATED")
      throw new GateError("resume_failed", `microvm ${vm.id} did not survive its resume`);
  }

  #visit(live: LiveMicrovm): Visit {
    const { host, clock } = this.#deps;
    const { closing } = live;
    const microvmId = live.vm.id;
    live.lastUsed = clock.monotonic();
    return {
      microvmId,
      closing,
      touch: () => {
        live.lastUsed = clock.monotonic();
      },
      connect: (port: number, signal: AbortSignal): Promise<Duplex> =>
        host.connect(microvmId, port, AbortSignal.any([signal, closing])),
      openShell: (spec: ShellSpec, signal: AbortSignal): Promise<Shell> =>
        host.openShell(microvmId, spec, AbortSignal.any([signal, closing])),
      leave: () => {}, // an open visit keeps nothing: only bytes count as use
    };
  }
}

const terminated = (id: string): GateError => new GateError("terminated", `microvm ${id} is terminated`);
