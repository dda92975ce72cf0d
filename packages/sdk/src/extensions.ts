import type { Receipt } from "@torpor/protocol";

/** A line that the workload wrote. */
export interface LogLine {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly stream: "stdout" | "stderr";
  readonly text: string;
}

export interface HostFacts {
  readonly architecture: string;
  /** `hardware`, or `emulated`: no security boundary. */
  readonly isolation: string;
  readonly accelerator: string;
  readonly vmmVersion: string;
  readonly guestKernelVersion: string;
  readonly agentVersion: string;
}

export interface Health {
  readonly status: string;
}

export type { Receipt };

/** @throws SyntaxError when it is no log line */
export function parseLogLine(json: string): LogLine {
  const line = fieldsOf(JSON.parse(json));
  const stream = line.get("stream");
  const text = line.get("text");
  const time = line.get("time");
  if ((stream !== "stdout" && stream !== "stderr") || typeof text !== "string" || typeof time !== "number")
    throw new SyntaxError(`not a log line: ${json.slice(0, 200)}`);
  return { time, stream, text };
}

/** `{"items": […]}` with whatever is no receipt left out. */
export function parseReceipts(answer: unknown): readonly Receipt[] {
  const items = fieldsOf(answer).get("items");
  return Array.isArray(items) ? items.filter(isReceipt) : [];
}

function isReceipt(value: unknown): value is Receipt {
  const receipt = fieldsOf(value);
  return (
    typeof receipt.get("operation") === "string" &&
    typeof receipt.get("startedAt") === "string" &&
    typeof receipt.get("totalMs") === "number" &&
    Array.isArray(receipt.get("phases"))
  );
}

const fieldsOf = (value: unknown): Map<string, unknown> =>
  new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
