import { fieldsOf, listIn, numberIn, optionalNumberIn, optionalTextIn, textIn } from "./fields.ts";
import { linesOf, textOf } from "./lines.ts";
import type { Transport } from "./transport.ts";

const NEVER = new AbortController().signal;

/** Times are milliseconds since the epoch. */
export interface LogGroup {
  readonly name: string;
  readonly arn: string;
  readonly createdAt: number;
  readonly bytes: number;
}

export interface LogStream {
  readonly name: string;
  readonly arn: string;
  readonly createdAt: number;
  /** Null as long as nothing is in it. */
  readonly firstTime: number | null;
  readonly lastTime: number | null;
}

export interface LogEvent {
  readonly id: string;
  readonly stream: string;
  readonly time: number;
  readonly text: string;
}

export interface LogEventFilter {
  /** One stream, or those whose name begins so; all when neither is given. */
  readonly stream?: string | undefined;
  readonly prefix?: string | undefined;
  /** A filter pattern of CloudWatch Logs. */
  readonly filter?: string | undefined;
  readonly from?: number | undefined;
  readonly to?: number | undefined;
  /** Goes on with what comes. */
  readonly follow?: boolean | undefined;
}

/** What is kept in the account's log groups. Methods throw as TorporClient's do. */
export class LogGroups {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** By name, page after page. */
  async *groups(filter: { readonly prefix?: string | undefined } = {}, signal: AbortSignal = NEVER) {
    for await (const item of this.#pages("groups", filter, signal)) yield parseGroup(item);
  }

  /** Those with the newest events first, page after page. */
  async *streams(
    group: string,
    filter: { readonly prefix?: string | undefined } = {},
    signal: AbortSignal = NEVER,
  ): AsyncGenerator<LogStream, void> {
    for await (const item of this.#pages("streams", { group, orderBy: "time", ...filter }, signal))
      yield parseStream(item);
  }

  /** Oldest first; with `follow` the stream of events does not end by itself. */
  async *events(
    group: string,
    filter: LogEventFilter = {},
    signal: AbortSignal = NEVER,
  ): AsyncGenerator<LogEvent, void> {
    const target = `/torpor/v1/logs/events${queryOf({ group, ...filter })}`;
    const response = await this.#transport.send({ method: "GET", target }, signal);
    for await (const line of linesOf(textOf(response, signal))) if (line !== "") yield parseEvent(JSON.parse(line));
  }

  async *#pages(what: string, query: Query, signal: AbortSignal): AsyncGenerator<unknown, void> {
    for (let nextToken: string | undefined; ; ) {
      const target = `/torpor/v1/logs/${what}${queryOf({ ...query, nextToken })}`;
      const page = fieldsOf(await this.#transport.json({ method: "GET", target }, signal));
      yield* listIn(page, "items", `list of log ${what}`);
      nextToken = optionalTextIn(page, "nextToken", `list of log ${what}`) ?? undefined;
      if (nextToken === undefined) return;
    }
  }
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

function queryOf(query: Query): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== false);
  return pairs.length === 0
    ? ""
    : `?${pairs.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&")}`;
}

function parseGroup(value: unknown): LogGroup {
  const fields = fieldsOf(value);
  const what = "log group";
  return {
    name: textIn(fields, "name", what),
    arn: textIn(fields, "arn", what),
    createdAt: numberIn(fields, "createdAt", what),
    bytes: numberIn(fields, "bytes", what),
  };
}

function parseStream(value: unknown): LogStream {
  const fields = fieldsOf(value);
  const what = "log stream";
  return {
    name: textIn(fields, "name", what),
    arn: textIn(fields, "arn", what),
    createdAt: numberIn(fields, "createdAt", what),
    firstTime: optionalNumberIn(fields, "firstTime", what),
    lastTime: optionalNumberIn(fields, "lastTime", what),
  };
}

function parseEvent(value: unknown): LogEvent {
  const fields = fieldsOf(value);
  const what = "log event";
  return {
    id: textIn(fields, "id", what),
    stream: textIn(fields, "stream", what),
    time: numberIn(fields, "time", what),
    text: textIn(fields, "text", what),
  };
}
