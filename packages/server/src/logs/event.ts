import { createHash } from "node:crypto";

/** One line as it is kept. */
export interface LogEvent {
  /** Place in its stream: counts up, never twice. */
  readonly n: number;
  /** Milliseconds since the epoch. Never runs backwards within a stream. */
  readonly time: number;
  /** When it was written down. */
  readonly ingested: number;
  readonly text: string;
  /** Who wrote it and which of their lines it is; for going on where an earlier server stopped. */
  readonly source?: LogSource;
}

export interface LogSource {
  readonly id: string;
  readonly position: number;
}

/** What a writer hands over. */
export interface NewLine {
  /** As the writer's clock had it: see `timeOf`. */
  readonly time: number;
  readonly text: string;
  readonly source?: LogSource;
}

/** Of one event's text, in UTF-8: CloudWatch Logs' limit for an event, less what it counts for the rest. */
export const MAX_TEXT_BYTES = 256 * 1024 - 26;
/** A guest's clock may be behind by so much; what claims to be older was not written then. */
const MOST_BEHIND_MS = 60_000;
/** What claims to be older than that is not believed, as CloudWatch Logs would not take it. */
const OLDEST_MS = 14 * 24 * 3600 * 1000;

/**
 * The time under which a line is kept. The writer's clock is a guest's and not trusted: it is neither later than ours
 * nor earlier than the line before, so that a stream is sorted by time as it is by place.
 */
export function timeOf(claimed: number, last: number, now: number): number {
  const plausible = claimed <= now && claimed >= Math.max(last - MOST_BEHIND_MS, now - OLDEST_MS);
  return Math.max(plausible ? Math.trunc(claimed) : now, last);
}

/** Cut where a character ends. */
export function boundedText(text: string): string {
  if (text.length * 3 <= MAX_TEXT_BYTES) return text.toWellFormed();
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length <= MAX_TEXT_BYTES) return text.toWellFormed();
  return new TextDecoder().decode(bytes.subarray(0, MAX_TEXT_BYTES), { stream: true });
}

export function encodeEvent({ n, time, ingested, text, source }: LogEvent): string {
  return `${JSON.stringify({ n, t: time, i: ingested, m: text, ...(source && { s: [source.id, source.position] }) })}\n`;
}

/** Undefined for what is none: the torn last line that a crash or a full disk leaves, and the header. */
export function decodeEvent(line: string): LogEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { n, t, i, m, s } = Object(value) as Record<string, unknown>;
  if (!isWhole(n) || !isWhole(t) || !isWhole(i) || typeof m !== "string") return undefined;
  const event = { n, time: t, ingested: i, text: m };
  const [id, position] = Array.isArray(s) ? (s as unknown[]) : [];
  return typeof id === "string" && isWhole(position) ? { ...event, source: { id, position } } : event;
}

/** 56 digits, as CloudWatch Logs has them: time, stream, place. The same for the same event for ever. */
export function eventId(streamKey: string, { time, n }: LogEvent): string {
  const stream = BigInt(`0x${createHash("sha256").update(streamKey).digest("hex").slice(0, 16)}`);
  return `${String(time).padStart(16, "0")}${String(stream).padStart(20, "0")}${String(n).padStart(20, "0")}`;
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
