import type { Agent } from "../agent/agent.ts";

/**
 * The request that RFC 9110 §9.3.7 has for asking a server nothing. What a guest runs to answer it (network, agent, the
 * workload's server) is then in its memory and, in emulation, translated: the first request that somebody sends finds
 * it so.
 */
const NO_OP = "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUser-Agent: torpor\r\nConnection: close\r\n\r\n";
/** Of an answer that nobody reads. */
const MAX_BYTES = 64 << 10;
const ANSWER_MS = 5000;

/**
 * Resolves when the workload has answered, or refused to.
 * @throws Error when the guest is not as it was: its workload has ended
 */
export async function askForNothing(agent: Agent, port: number, signal: AbortSignal): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
  try {
    const stream = await agent.forward(port, limited);
    try {
      stream.end(NO_OP);
      let bytes = 0;
      for await (const chunk of stream) {
        bytes += (chunk as Buffer).length;
        if (bytes > MAX_BYTES) break;
      }
    } finally {
      stream.destroy();
    }
  } catch {
    signal.throwIfAborted();
    // It speaks something else, or nobody listens any more: its affair.
  }
  const { workload } = await agent.hello(signal);
  if (workload.state !== "running")
    throw new Error(`the workload is ${workload.state} after OPTIONS * on port ${port}`);
}
