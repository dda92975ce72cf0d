import type { Log } from "../../lib/log.ts";
import type { Vmm } from "../driver/driver.ts";
import type { Agent } from "./agent.ts";
import { AgentError } from "./connection.ts";

let oldAgentMet = false;

/**
 * Stops the guest's workload ahead of a snapshot: a clone of it then runs nothing of the workload's before it has an
 * identity. A guest that cannot or will not is left as it is after a bounded time: its snapshot is taken all the same.
 * @returns what thaws the guest if it runs on; it is disposed with the VMM at the latest
 */
export async function freezeWorkload(
  agent: Agent,
  vmm: Pick<Vmm, "ended">,
  log: Log,
  signal: AbortSignal,
): Promise<Disposable> {
  try {
    const frozen = await agent.freeze(signal);
    void vmm.ended.then(() => frozen[Symbol.dispose]());
    return frozen;
  } catch (err) {
    signal.throwIfAborted();
    if (!(err instanceof AgentError && err.code === "unknown_request"))
      log.warn({ err }, "workload not frozen for its snapshot");
    else if (!oldAgentMet) {
      oldAgentMet = true;
      log.warn(
        {},
        "an image from before workloads were frozen: its clones run before they have an identity; build it anew",
      );
    }
    return { [Symbol.dispose]: () => {} };
  }
}
