import type { Log } from "../../lib/log.ts";
import { StaleWriteError } from "../../store/errors.ts";
import type { NetworkConnector } from "../../store/network-connector.ts";
import type { Store } from "../../store/store.ts";
import type { Tasks } from "../tasks.ts";

export interface ConnectorChangeDeps {
  readonly store: Pick<Store, "networkConnectors">;
  readonly tasks: Tasks;
  readonly log: Log;
}

/** What a connector is becoming, it soon is: nothing has to be made for it. A crash in between is made up for. */
export class ConnectorChanges {
  readonly #deps: ConnectorChangeDeps;

  constructor(deps: ConnectorChangeDeps) {
    this.#deps = deps;
  }

  /** In the background. */
  finish(connector: NetworkConnector): void {
    this.#deps.tasks.start("network connector", () => this.#finish(connector));
  }

  /** What an earlier server has begun. */
  async recover(): Promise<void> {
    for (const connector of await this.#deps.store.networkConnectors.unfinished()) await this.#finish(connector);
  }

  async #finish(connector: NetworkConnector): Promise<void> {
    const { networkConnectors } = this.#deps.store;
    const { state, update } = connector;
    try {
      if (state === "DELETING") await networkConnectors.remove(connector.id);
      else if (state === "PENDING" || update?.status === "InProgress")
        await networkConnectors.update({
          ...connector,
          state: "ACTIVE",
          update: update && { status: "Successful", reason: update.reason },
        });
    } catch (err) {
      // Somebody has changed it since, and sees to what it becomes then.
      if (!(err instanceof StaleWriteError)) throw err;
      this.#deps.log.debug({ connectorId: connector.id }, "network connector changed meanwhile");
    }
  }
}
