import type { HostClient } from "../../host/host-client.ts";
import type { Log } from "../../lib/log.ts";
import type { LogStore } from "../../logs/log-store.ts";
import { mergedEvents } from "../../logs/merge.ts";
import type { LogTarget } from "../../logs/names.ts";
import type { Fleet } from "../microvm/fleet.ts";
import type { LiveMicrovm } from "../microvm/live.ts";
import type { Tasks } from "../tasks.ts";
import { microvmDestination } from "./destination.ts";

export interface CollectorDeps {
  readonly fleet: Fleet;
  readonly host: Pick<HostClient, "logs">;
  readonly logs: LogStore;
  readonly tasks: Tasks;
  readonly log: Log;
  /** Aborted when the server closes: the next one goes on. */
  readonly stopping: AbortSignal;
}

/**
 * Brings what workloads write from their hosts to the log groups that their RunMicrovm names. It reads what the host has
 * kept, so it is in nobody's way: a microvm that writes faster than this reads loses its oldest lines, and nothing else.
 */
export class LogCollector {
  readonly #deps: CollectorDeps;

  constructor(deps: CollectorDeps) {
    this.#deps = deps;
  }

  /** Collects for every microvm from here on; for those of an earlier server from where that one stopped. */
  async start(): Promise<void> {
    const { fleet, tasks } = this.#deps;
    const positions = await this.#positions();
    fleet.watch((live) => {
      const target = microvmDestination(live.vm);
      if (target) tasks.start("collect logs", () => this.#collect(live, target, positions.get(live.vm.id) ?? 0));
    });
  }

  /** By microvm, the newest of its lines that was collected. */
  async #positions(): Promise<Map<string, number>> {
    const { fleet, logs } = this.#deps;
    const streams = new Set(
      fleet.all().flatMap(({ vm }) => {
        const target = microvmDestination(vm);
        return target ? [logs.group(target.accountId, target.group)?.streams.get(target.stream)] : [];
      }),
    );
    const positions = new Map<string, number>();
    for (const stream of streams)
      if (stream)
        for await (const { event } of mergedEvents([stream], { from: 0, to: Number.MAX_SAFE_INTEGER }))
          if (event.source) positions.set(event.source.id, event.source.position);
    return positions;
  }

  async #collect(live: LiveMicrovm, target: LogTarget, from: number): Promise<void> {
    const { log, stopping } = this.#deps;
    const microvmId = live.vm.id;
    const microvm = { live, target, after: from };
    while (!stopping.aborted) {
      const { state } = live.vm;
      try {
        if (state !== "PENDING") await this.#read(microvm, state !== "TERMINATED");
        if (state === "TERMINATED") return;
        if (live.vm.state === state) await live.changed(stopping);
      } catch (err) {
        if (stopping.aborted) return;
        log.warn({ err, microvmId }, "workload lines not collected");
        if (live.vm.state === "TERMINATED") return;
        await live.changed(stopping).catch(() => {});
      }
    }
  }

  /** With `follow`, until the host has no instance of it any more. */
  async #read(
    microvm: { readonly live: LiveMicrovm; readonly target: LogTarget; after: number },
    follow: boolean,
  ): Promise<void> {
    const { host, logs, stopping } = this.#deps;
    const { id } = microvm.live.vm;
    for await (const { position, time, text } of host.logs(id, { follow, after: microvm.after }, stopping)) {
      if (stopping.aborted) return;
      microvm.after = position;
      await logs.append(microvm.target, { time, text, source: { id, position } });
    }
  }
}
