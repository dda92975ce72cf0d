import type { Receipt } from "@torpor/protocol";
import { fieldsOf, textIn, unexpected } from "./fields.ts";

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
  readonly version: string;
  readonly isolation: string;
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

/** @throws ApiError when it is no list of receipts */
export function parseReceipts(answer: unknown): readonly Receipt[] {
  const items = fieldsOf(answer).get("items");
  if (!Array.isArray(items)) throw unexpected("list of receipts");
  return items.map(parseReceipt);
}

/** @throws ApiError when it is none */
export function parseReceipt(value: unknown): Receipt {
  if (!isReceipt(value)) throw unexpected("receipt");
  return value;
}

function isReceipt(value: unknown): value is Receipt {
  const receipt = fieldsOf(value);
  const [phases, reused] = [receipt.get("phases"), receipt.get("reused")];
  return (
    typeof receipt.get("operation") === "string" &&
    typeof receipt.get("startedAt") === "string" &&
    ["totalMs", "bytesRead", "bytesWritten"].every((name) => typeof receipt.get(name) === "number") &&
    Array.isArray(phases) &&
    phases.every((p) => typeof fieldsOf(p).get("name") === "string" && typeof fieldsOf(p).get("ms") === "number") &&
    Array.isArray(reused) &&
    reused.every((what) => typeof what === "string")
  );
}

/** @throws ApiError when it is something else */
export function parseHostFacts(value: unknown): HostFacts {
  const facts = fieldsOf(value);
  const text = (name: string): string => textIn(facts, name, "host");
  return {
    architecture: text("architecture"),
    isolation: text("isolation"),
    accelerator: text("accelerator"),
    vmmVersion: text("vmmVersion"),
    guestKernelVersion: text("guestKernelVersion"),
    agentVersion: text("agentVersion"),
  };
}

/** @throws ApiError when it is something else */
export function parseHealth(value: unknown): Health {
  const health = fieldsOf(value);
  const text = (name: string): string => textIn(health, name, "health");
  return { status: text("status"), version: text("version"), isolation: text("isolation") };
}
