import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import type { Store } from "../../store/store.ts";
import type { Tasks } from "../tasks.ts";
import { untilStored } from "../until-stored.ts";

export interface ConnectorChangeDeps {
  readonly store: Pick<Store, "networkConnectors">;
  readonly clock: Clock;
  readonly tasks: Tasks;
  readonly log: Log;
  readonly shutdown: AbortSignal;
}

/** What a connector is becoming, it soon is: nothing has to be made for it. A crash in between is made up for. */
export class ConnectorChanges {
  readonly #deps: ConnectorChangeDeps;

  constructor(deps: ConnectorChangeDeps) {
    this.#deps = deps;
  }

  /** In the background. */
  finish(id: string): void {
    this.#deps.tasks.start("network connector", () => this.#finish(id));
  }

  /** What an earlier server has begun. */
  async recover(): Promise<void> {
    for (const { id } of await this.#deps.store.networkConnectors.unfinished()) await this.#finish(id);
  }

  async #finish(id: string): Promise<void> {
    await untilStored(() => this.#deps.store.networkConnectors.settle(id), this.#deps);
    this.#deps.log.info({ connectorId: id }, "network connector settled");
  }
}
