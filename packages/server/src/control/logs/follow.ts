import { EventEmitter, once } from "node:events";
import type { LogEvent } from "../../logs/event.ts";
import type { LineFilter } from "../../logs/line-filter.ts";
import type { LogStore } from "../../logs/log-store.ts";
import { mergedEvents } from "../../logs/merge.ts";
import type { LogStream } from "../../logs/stream.ts";
import { type LogLine, lineOf } from "./line.ts";

/** Characters that wait for a slow reader, each event counted with some; with more, it is read from the files again. */
const MOST_WAITING = 2 << 20;
const OVERHEAD = 256;

export interface Following {
  readonly logs: LogStore;
  readonly accountId: string;
  readonly group: string;
  readonly wantsStream: (name: string) => boolean;
  readonly wants: LineFilter;
  /** Milliseconds: what is older is left out. */
  readonly from: number;
  readonly to: number;
  readonly follow: boolean;
}

/**
 * What a group's streams hold, by time, and with `follow` what comes to them until the signal, as it comes. Nothing comes
 * twice, and nothing is left out that was not removed meanwhile.
 * @throws the signal's reason
 */
export async function* followGroup(request: Following, signal: AbortSignal): AsyncGenerator<LogLine> {
  const { logs, accountId, group: name, wantsStream, wants, from, to } = request;
  /** By stream, the place up to which it has been told. */
  const told = new WeakMap<LogStream, number>();
  const fresh: { readonly stream: LogStream; readonly event: LogEvent }[] = [];
  let waiting = 0;
  let behind = true;
  const news = new EventEmitter();
  const stop = logs.listen((target, stream, events, kept) => {
    if (!kept || target.accountId !== accountId || target.group !== name || !wantsStream(target.stream)) return;
    for (const event of events) {
      fresh.push({ stream, event });
      waiting += event.text.length + OVERHEAD;
    }
    if (waiting > MOST_WAITING) {
      behind = true;
      waiting = 0;
      fresh.length = 0;
    }
    news.emit("news");
  });
  const tell = function* (stream: LogStream, event: LogEvent): Generator<LogLine> {
    if (event.n <= (told.get(stream) ?? 0)) return;
    told.set(stream, event.n);
    if (event.time >= from && wants(event.text)) yield lineOf(name, stream, event);
  };
  try {
    for (;;) {
      signal.throwIfAborted();
      if (behind) {
        behind = false;
        const group = logs.group(accountId, name);
        const streams = [...(group?.streams.values() ?? [])].filter((stream) => wantsStream(stream.name));
        for await (const { stream, event } of mergedEvents(streams, { from, to })) {
          signal.throwIfAborted();
          yield* tell(stream, event);
        }
        if (!request.follow) return;
        continue; // it may be behind again
      }
      const next = fresh.shift();
      if (next) {
        waiting -= next.event.text.length + OVERHEAD;
        yield* tell(next.stream, next.event);
      } else await once(news, "news", { signal });
    }
  } finally {
    stop();
  }
}
