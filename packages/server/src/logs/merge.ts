import type { LogEvent } from "./event.ts";
import { compareNames } from "./names.ts";
import { eventsIn, type Segment } from "./segment.ts";
import type { LogStream } from "./stream.ts";

export interface FoundEvent {
  readonly stream: LogStream;
  readonly event: LogEvent;
}

/** Times in milliseconds; both ends are in it. */
export interface TimeRange {
  readonly from: number;
  readonly to: number;
}

/** Memory for what is read ahead, over all streams. */
const READ_AHEAD_BYTES = 32 << 20;
const [SMALLEST_CHUNK, LARGEST_CHUNK] = [4 * 1024, 64 * 1024];

/** The one order of all events of a group: time, then stream, then place. */
export function compareFound(a: FoundEvent, b: FoundEvent): number {
  return a.event.time - b.event.time || compareNames(a.stream.key, b.stream.key) || a.event.n - b.event.n;
}

/**
 * Events of many streams in one order. What is read at once is bounded however many streams there are, and a segment is
 * not touched before its time has come.
 */
export async function* mergedEvents(streams: readonly LogStream[], range: TimeRange): AsyncGenerator<FoundEvent> {
  const chunk = Math.max(SMALLEST_CHUNK, Math.min(LARGEST_CHUNK, Math.floor(READ_AHEAD_BYTES / (streams.length || 1))));
  const heap = new Heap();
  for (const stream of streams) {
    const segments = stream.segments.filter(
      ({ firstTime, lastTime }) => lastTime >= range.from && firstTime <= range.to,
    );
    const [first] = segments;
    if (first) heap.push({ stream, at: Math.max(first.firstTime, range.from), n: first.first, segments });
  }
  for (let top = heap.pop(); top; top = heap.pop()) {
    const { stream, event } = top;
    if (event) yield { stream, event };
    const events = top.events ?? eventsOf(stream, top.segments, range, chunk);
    const { value, done } = await events.next();
    if (!done) heap.push({ stream, at: value.time, n: value.n, event: value, events, segments: [] });
  }
}

async function* eventsOf(
  stream: LogStream,
  segments: readonly Segment[],
  { from, to }: TimeRange,
  chunk: number,
): AsyncGenerator<LogEvent, undefined> {
  for (const segment of segments)
    for await (const event of eventsIn(stream.folder, segment, chunk)) {
      if (event.time > to) return;
      if (event.time >= from) yield event;
    }
}

/** A stream's place in the merge; without `events`, where it will be at the earliest. */
interface Cursor {
  readonly stream: LogStream;
  readonly at: number;
  readonly n: number;
  readonly event?: LogEvent;
  readonly events?: AsyncGenerator<LogEvent, undefined>;
  readonly segments: readonly Segment[];
}

const before = (a: Cursor, b: Cursor): boolean =>
  (a.at - b.at || compareNames(a.stream.key, b.stream.key) || a.n - b.n) < 0;

/** The least first. */
class Heap {
  readonly #items: Cursor[] = [];

  push(item: Cursor): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    for (let parent = (at - 1) >> 1; at > 0 && before(item, items[parent]!); parent = (at - 1) >> 1) {
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Cursor | undefined {
    const items = this.#items;
    const [top] = items;
    const last = items.pop();
    if (!last || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++;
      if (child >= items.length || !before(items[child]!, last)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}
