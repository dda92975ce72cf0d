import type { Log } from "../../lib/log.ts";
import { printable } from "../../lib/text.ts";
import type { Agent, AgentEvent } from "../agent/agent.ts";
import type { WorkloadLog } from "./workload-log.ts";

/** Collects what the workload writes until the signal, over as many connections as it takes. */
export async function watchWorkload(
  agent: Agent,
  logs: WorkloadLog,
  onExit: (exitCode: number) => void,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const event of agent.watch(await logs.lastSeq(), signal)) {
        if (event.kind === "exit") onExit(event.exitCode ?? 0);
        else await logs.append(lineOf(event, event.kind));
      }
    } catch (err) {
      if (!signal.aborted) log.debug({ err }, "watch interrupted");
    }
  }
}

function lineOf({ seq, time, text, lines }: AgentEvent, kind: "stdout" | "stderr" | "lost") {
  if (kind === "lost") return { seq, time, stream: "stderr", text: `(${lines ?? 0} lines lost)` } as const;
  return { seq, time, stream: kind, text: printable(text ?? "") };
}
