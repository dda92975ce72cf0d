import { invalidInput } from "../../lib/errors.ts";
import { Limiter } from "../../lib/limiter.ts";
import type { LogEvent } from "../../logs/event.ts";
import { parseFilterPattern } from "../../logs/filter-pattern.ts";
import type { LogGroup } from "../../logs/group.ts";
import { FilterPatternError, type LineFilter } from "../../logs/line-filter.ts";
import type { LogStore } from "../../logs/log-store.ts";
import { mergedEvents } from "../../logs/merge.ts";
import { compareNames } from "../../logs/names.ts";
import { eventsIn } from "../../logs/segment.ts";
import type { LogStream } from "../../logs/stream.ts";
import { invalidPageToken, type Page, type PageRequest, pageToken, parsePageToken, readPage } from "../page.ts";
import type { RequestContext } from "../request-context.ts";
import { groupArn, groupNamed, noSuchGroup, noSuchStream, streamArn } from "./arn.ts";
import { followGroup } from "./follow.ts";
import { type LogLine, lineOf } from "./line.ts";

export interface LogReadingDeps {
  readonly region: string;
  readonly logs: LogStore;
}

/** Milliseconds; from and to are in it. */
export interface Between {
  readonly from?: number | null | undefined;
  readonly to?: number | null | undefined;
}

/** Which streams of a group: those named, or all whose name begins so. */
export interface StreamChoice {
  readonly streams?: readonly string[] | null | undefined;
  readonly prefix?: string | null | undefined;
}

export interface GroupView {
  readonly name: string;
  readonly arn: string;
  readonly createdAt: number;
  readonly bytes: number;
}
export interface StreamView {
  readonly name: string;
  readonly arn: string;
  readonly createdAt: number;
  readonly firstTime: number | undefined;
  readonly lastTime: number | undefined;
  readonly lastIngested: number | undefined;
}

export const MOST_EVENTS = 10_000;
/** Text of one page, with what the service counts for each event beside it. */
const PAGE_BYTES = 1 << 20;
const EVENT_OVERHEAD = 26;
/** Events that are looked at for one page: what matches rarely takes more pages, not a longer answer. */
const MOST_LOOKED_AT = 100_000;
/** Pages that are searched for at once. */
const SEARCHES = 4;

/** Reads what the log groups of the caller's account hold. Failures are in CloudWatch Logs' words. */
export class LogReading {
  readonly #deps: LogReadingDeps;
  readonly #searches = new Limiter(SEARCHES);

  constructor(deps: LogReadingDeps) {
    this.#deps = deps;
  }

  /** By name. */
  async groups(
    context: RequestContext,
    filter: { readonly prefix?: string | null | undefined; readonly infix?: string | null | undefined },
    page: PageRequest,
  ): Promise<Page<GroupView>> {
    const { region, logs } = this.#deps;
    const { accountId } = context;
    const infix = filter.infix?.toLowerCase();
    const found = logs
      .groups(accountId)
      .filter(({ name }) => name.startsWith(filter.prefix ?? "") && name.toLowerCase().includes(infix ?? ""));
    const scope = ["DescribeLogGroups", accountId, filter.prefix, filter.infix];
    const { items, nextToken } = await readPage<LogGroup, string>(scope, page, BY_NAME, (after, limit) =>
      found.filter(({ name }) => after === undefined || compareNames(name, after) > 0).slice(0, limit),
    );
    const view = (group: LogGroup): GroupView => ({
      name: group.name,
      arn: groupArn(region, accountId, group.name),
      createdAt: group.createdAt,
      bytes: group.bytes,
    });
    return { items: items.map(view), nextToken };
  }

  /** By name, or by the time of the newest event. */
  async streams(
    context: RequestContext,
    groupName: string,
    order: { readonly prefix?: string | null | undefined; readonly by: "name" | "time"; readonly descending: boolean },
    page: PageRequest,
  ): Promise<Page<StreamView>> {
    const group = this.#group(context, groupName);
    const sign = order.descending ? -1 : 1;
    const keyOf = (stream: LogStream): Position => [order.by === "time" ? (stream.lastTime ?? 0) : 0, stream.name];
    const compare = (a: Position, b: Position): number => sign * (a[0] - b[0] || compareNames(a[1], b[1]));
    const found = [...group.streams.values()]
      .filter(({ name }) => name.startsWith(order.prefix ?? ""))
      .map((stream) => ({ stream, key: keyOf(stream) }))
      .sort((a, b) => compare(a.key, b.key));
    const scope = [
      "DescribeLogStreams",
      context.accountId,
      groupName,
      order.prefix,
      order.by,
      String(order.descending),
    ];
    const positions = { of: ({ key }: (typeof found)[number]) => key, parse: parsePosition };
    const { items, nextToken } = await readPage<(typeof found)[number], Position>(
      scope,
      page,
      positions,
      (after, limit) => found.filter(({ key }) => after === undefined || compare(key, after) > 0).slice(0, limit),
    );
    return { items: items.map(({ stream }) => this.#streamView(group, stream)), nextToken };
  }

  /**
   * A stream's events in order: the oldest that follow a token or begin the range, or the newest that precede one or end
   * it. A token that leads to nothing new comes back as it is.
   */
  async events(
    context: RequestContext,
    groupName: string,
    streamName: string,
    request: Between & {
      readonly limit?: number | null | undefined;
      readonly nextToken?: string | null | undefined;
      readonly fromHead: boolean;
    },
  ): Promise<{ readonly items: readonly LogLine[]; readonly forward: string; readonly backward: string }> {
    const group = this.#group(context, groupName);
    const stream = group.streams.get(streamName);
    if (!stream) throw noSuchStream();
    const token = request.nextToken ? parseStreamToken(request.nextToken) : undefined;
    const range = { from: request.from ?? 0, to: request.to ?? Number.MAX_SAFE_INTEGER };
    const limit = request.limit ?? MOST_EVENTS;
    const forward = token ? token.direction === "f" : request.fromHead;
    const found = forward
      ? await eventsAfter(stream, token?.n ?? 0, range, limit)
      : await eventsBefore(stream, token?.n ?? Number.MAX_SAFE_INTEGER, range, limit);
    const first = found[0]?.n ?? token?.n ?? 0;
    const last = found.at(-1)?.n ?? token?.n ?? 0;
    return {
      items: found.map((event) => lineOf(group.name, stream, event)),
      forward: streamToken("f", last),
      backward: streamToken("b", first),
    };
  }

  /**
   * Events of all chosen streams that the pattern lets through, by time. A page can be empty and not the last: so much was
   * looked at, and nothing of it matched.
   */
  async search(
    context: RequestContext,
    groupName: string,
    request: Between &
      StreamChoice & {
        readonly pattern?: string | null | undefined;
        readonly limit?: number | null | undefined;
        readonly nextToken?: string | null | undefined;
      },
  ): Promise<Page<LogLine>> {
    const group = this.#group(context, groupName);
    const wanted = lineFilter(request.pattern);
    const streams = chosen(group, request);
    const { from, to, pattern, prefix } = request;
    const names = request.streams ? JSON.stringify(request.streams) : null;
    const scope = ["FilterLogEvents", context.accountId, groupName, from, to, pattern, prefix, names];
    const after = request.nextToken ? parseSearchToken(scope, request.nextToken) : undefined;
    return await this.#searches.run("urgent", context.signal, async () => {
      const items: LogLine[] = [];
      let [looked, bytes] = [0, 0];
      let last: SearchPosition | undefined;
      const range = { from: Math.max(from ?? 0, after?.[0] ?? 0), to: to ?? Number.MAX_SAFE_INTEGER };
      for await (const { stream, event } of mergedEvents(streams, range)) {
        context.signal.throwIfAborted();
        const position: SearchPosition = [event.time, stream.key, event.n];
        if (after && compareSearch(position, after) <= 0) continue;
        const size = Buffer.byteLength(event.text) + EVENT_OVERHEAD;
        const full = items.length >= (request.limit ?? MOST_EVENTS) || (items.length > 0 && bytes + size > PAGE_BYTES);
        if (last && (full || looked >= MOST_LOOKED_AT)) return { items, nextToken: pageToken(scope, last) };
        last = position;
        looked++;
        if (!wanted(event.text)) continue;
        bytes += size;
        items.push(lineOf(group.name, stream, event));
      }
      return { items, nextToken: null };
    });
  }

  /**
   * All that the chosen streams hold, by time; with `follow` also what comes to them, streams that are new included, until
   * the signal.
   */
  follow(
    context: RequestContext,
    groupName: string,
    request: Between & StreamChoice & { readonly pattern?: string | null | undefined; readonly follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine> {
    const { follow, from, to, streams, prefix } = request;
    const group = this.#group(context, groupName);
    const wants = lineFilter(request.pattern);
    if (!follow) chosen(group, request); // the absent ones are told of
    const following = {
      logs: this.#deps.logs,
      accountId: context.accountId,
      group: group.name,
      wantsStream: (name: string) => streams?.includes(name) ?? name.startsWith(prefix ?? ""),
      wants,
      from: from ?? 0,
      to: to ?? Number.MAX_SAFE_INTEGER,
      follow,
    };
    return followGroup(following, signal);
  }

  /** The caller's group; another account's is none. @throws TorporError */
  #group(context: RequestContext, named: string): LogGroup {
    const own = { region: this.#deps.region, accountId: context.accountId };
    const { region, accountId, name } = groupNamed(named, own);
    const known = region === own.region && accountId === own.accountId;
    const group = known ? this.#deps.logs.group(accountId, name) : undefined;
    if (!group) throw noSuchGroup();
    return group;
  }

  #streamView(group: LogGroup, stream: LogStream): StreamView {
    const { name, createdAt, firstTime, lastTime, lastIngested } = stream;
    const arn = streamArn(this.#deps.region, group.accountId, group.name, name);
    return { name, arn, createdAt, firstTime, lastTime, lastIngested };
  }
}

/** @throws TorporError */
export function lineFilter(pattern: string | null | undefined): LineFilter {
  try {
    return parseFilterPattern(pattern ?? "");
  } catch (err) {
    throw err instanceof FilterPatternError ? invalidInput(err.message) : err;
  }
}

/** @throws TorporError for a stream that is not there */
export function chosen(group: LogGroup, { streams, prefix }: StreamChoice): LogStream[] {
  if (streams)
    return [...new Set(streams)].map((name) => {
      const stream = group.streams.get(name);
      if (!stream) throw noSuchStream();
      return stream;
    });
  return [...group.streams.values()].filter(({ name }) => name.startsWith(prefix ?? ""));
}

interface Range {
  readonly from: number;
  readonly to: number;
}

async function eventsAfter(stream: LogStream, n: number, range: Range, limit: number): Promise<LogEvent[]> {
  const found: LogEvent[] = [];
  let bytes = 0;
  for (const segment of stream.segments) {
    if (segment.last <= n || segment.lastTime < range.from) continue;
    for await (const event of eventsIn(stream.folder, segment)) {
      if (event.n <= n || event.time < range.from) continue;
      bytes += Buffer.byteLength(event.text) + EVENT_OVERHEAD;
      if (event.time > range.to || found.length >= limit || (found.length > 0 && bytes > PAGE_BYTES)) return found;
      found.push(event);
    }
  }
  return found;
}

/** A segment is read whole: it is of bounded size. */
async function eventsBefore(stream: LogStream, n: number, range: Range, limit: number): Promise<LogEvent[]> {
  const found: LogEvent[] = [];
  let bytes = 0;
  for (const segment of stream.segments.toReversed()) {
    if (segment.first >= n || segment.firstTime > range.to) continue;
    const events: LogEvent[] = [];
    for await (const event of eventsIn(stream.folder, segment)) events.push(event);
    for (const event of events.reverse()) {
      if (event.n >= n || event.time > range.to) continue;
      bytes += Buffer.byteLength(event.text) + EVENT_OVERHEAD;
      if (event.time < range.from || found.length >= limit || (found.length > 0 && bytes > PAGE_BYTES))
        return found.reverse();
      found.push(event);
    }
  }
  return found.reverse();
}

const BY_NAME = {
  of: ({ name }: { readonly name: string }) => [name],
  parse: ([name]: readonly unknown[]) => (typeof name === "string" ? name : undefined),
};

type Position = readonly [time: number, name: string];
const parsePosition = ([time, name]: readonly unknown[]): Position | undefined =>
  typeof time === "number" && typeof name === "string" ? [time, name] : undefined;

const streamToken = (direction: "f" | "b", n: number): string => `${direction}/${String(n).padStart(56, "0")}/s`;

function parseStreamToken(token: string): { readonly direction: string; readonly n: number } {
  const [, direction, digits] = /^([fb])\/(\d{56})\/s$/.exec(token) ?? [];
  const n = Number(digits);
  if (direction === undefined || !Number.isSafeInteger(n)) throw invalidInput("The specified nextToken is invalid.");
  return { direction, n };
}

type SearchPosition = readonly [time: number, streamKey: string, n: number];
const compareSearch = (a: SearchPosition, b: SearchPosition): number =>
  a[0] - b[0] || compareNames(a[1], b[1]) || a[2] - b[2];

function parseSearchToken(scope: Parameters<typeof parsePageToken>[0], token: string): SearchPosition {
  const [time, key, n] = parsePageToken(scope, token);
  if (typeof time !== "number" || typeof key !== "string" || typeof n !== "number") throw invalidPageToken();
  return [time, key, n];
}
