import type { Config } from "../../config.ts";
import type { HostClient } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { Store } from "../../store/store.ts";

const HOUR_MS = 3_600_000;
const SWEEP_MS = HOUR_MS;
/** More are left to the next round of the same sweep, so that none of them is long. */
const AT_ONCE = 100;

export interface RetentionDeps {
  readonly config: Pick<Config, "endedRetentionHours">;
  readonly store: Pick<Store, "microvms">;
  readonly host: Pick<HostClient, "forget">;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Microvms that have ended stay listed for a while, by the wall clock, and then go: what the host has of them first,
 * their row last, so that a crash in between leaves something that the next sweep finds again.
 */
export class Retention {
  readonly #deps: RetentionDeps;

  constructor(deps: RetentionDeps) {
    this.#deps = deps;
  }

  /** Sweeps now and every hour until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { config, clock, log } = this.#deps;
    if (config.endedRetentionHours === 0) return;
    for (;;) {
      try {
        await this.sweep(signal);
      } catch (err) {
        if (!signal.aborted) log.error({ err }, "sweep of ended microvms failed, to be repeated");
      }
      try {
        await pause(clock, SWEEP_MS, signal);
      } catch {
        return;
      }
    }
  }

  async sweep(signal: AbortSignal): Promise<void> {
    const { config, store, host, clock, log } = this.#deps;
    const before = new Date(clock.now() - config.endedRetentionHours * HOUR_MS);
    for (;;) {
      const ids = await store.microvms.endedBefore(before, AT_ONCE);
      for (const id of ids) {
        signal.throwIfAborted();
        await host.forget(id);
        await store.microvms.forget(id);
      }
      if (ids.length > 0) log.info({ count: ids.length }, "ended microvms forgotten");
      if (ids.length < AT_ONCE) return;
    }
  }
}
