import { eventId, type LogEvent } from "../../logs/event.ts";
import type { LogStream } from "../../logs/stream.ts";

/** An event with the stream that it is in, as readers get it. */
export interface LogLine {
  readonly id: string;
  readonly stream: string;
  /** Milliseconds since the epoch, as `ingested`. */
  readonly time: number;
  readonly ingested: number;
  readonly text: string;
}

export function lineOf(group: string, stream: LogStream, event: LogEvent): LogLine {
  const { time, ingested, text } = event;
  return { id: eventId(`${group}\n${stream.name}`, event), stream: stream.name, time, ingested, text };
}
