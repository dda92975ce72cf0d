import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import type { Clone, Supply } from "../supply/supply.ts";
import type { WarmSet, WarmVmm } from "../supply/warm.ts";

export interface StandbyDeps {
  readonly supply: Pick<Supply, "discard">;
  readonly warm: WarmSet;
  readonly clock: Clock;
  /** How long the VMM of a suspended microvm is kept; 0: not at all. */
  readonly standbyMs: number;
  readonly log: Log;
}

/**
 * The VMM of a suspended microvm, which stands still and wakes where it was, if it has not been evicted by then: the
 * snapshot is durable, so nothing is lost with it.
 */
export class Standby {
  readonly #deps: StandbyDeps;
  readonly #clone: Clone;
  readonly #item: WarmVmm;
  readonly #ready: Promise<Clone>;

  /** @param putLayerAbove what the guest writes when it wakes must not go into the snapshot's layers */
  constructor(clone: Clone, privateBytes: number, deps: StandbyDeps, putLayerAbove: () => Promise<Clone>) {
    const { supply, warm, clock, standbyMs, log } = deps;
    this.#deps = deps;
    this.#clone = clone;
    this.#ready = putLayerAbove();
    this.#item = {
      kind: "standby",
      bytes: privateBytes,
      until: clock.monotonic() + standbyMs,
      evict: async () => {
        await this.#ready.catch(() => {});
        await supply.discard(clone);
      },
    };
    this.#ready.catch(async (err: unknown) => {
      log.warn({ err }, "no standby: its disk has no new layer");
      await this.end();
    });
    void clone.vmm.ended.then(() => this.end());
    warm.add(this.#item);
  }

  /** Undefined when it is gone. */
  get vmm(): Clone["vmm"] | undefined {
    return this.#deps.warm.has(this.#item) ? this.#clone.vmm : undefined;
  }

  get cell(): Clone["cell"] {
    return this.#clone.cell;
  }

  /** The VMM, ready to run; undefined when it is gone. */
  async take(): Promise<Clone | undefined> {
    if (!this.#deps.warm.take(this.#item)) return undefined;
    try {
      return { ...(await this.#ready), reused: ["standby"] };
    } catch {
      await this.#deps.supply.discard(this.#clone);
      return undefined;
    }
  }

  async end(): Promise<void> {
    if (this.#deps.warm.take(this.#item)) await this.#item.evict();
  }
}
