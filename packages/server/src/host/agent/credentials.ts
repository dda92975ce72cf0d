import { HostError } from "../host-client.ts";
import type { Agent } from "./agent.ts";
import { AgentError } from "./connection.ts";

/**
 * What the guest's metadata service tells from now on; empty: nothing.
 * @throws HostError `incompatible` when the guest's agent is from before there was such a service
 */
export async function giveCredentials(agent: Agent, document: string, signal: AbortSignal): Promise<void> {
  try {
    await agent.setCredentials(document, signal);
  } catch (err) {
    if (!(err instanceof AgentError && err.code === "unknown_request")) throw err;
    throw new HostError("incompatible", "the image is from before guests had a metadata service: build it anew", {
      cause: err,
    });
  }
}
