import { z } from "zod";
import type { Log } from "../../lib/log.ts";
import { check, queryOf, whole } from "./check.ts";
import type { LogGroups } from "./extensions.ts";
import { jsonLines } from "./json-lines.ts";
import type { OwnRoute } from "./own-route.ts";
import { streamReply } from "./stream-reply.ts";

const group = z.string("expected the name of a log group").min(1, "expected the name of a log group").max(2048);
const text = z.string().max(1024).optional();
const number = (max: number) =>
  z
    .string()
    .transform((digits) => (/^\d{1,16}$/.test(digits) ? Number(digits) : digits))
    .pipe(whole(0, max))
    .optional();
const page = { prefix: text, nextToken: text, maxResults: number(1000) };
const groupsQuery = z.object(page);
const streamsQuery = z.object({
  ...page,
  group,
  orderBy: z.enum(["name", "time"], "expected name or time").default("name"),
});
const eventsQuery = z.object({
  group,
  stream: text,
  prefix: text,
  filter: text,
  from: number(Number.MAX_SAFE_INTEGER),
  to: number(Number.MAX_SAFE_INTEGER),
  follow: z
    .enum(["true", "false"], "expected true or false")
    .default("false")
    .transform((text) => text === "true"),
});

/** Log groups as our own clients read them: pages of names, and events as lines of JSON. */
export function registerLogGroups(
  own: OwnRoute,
  logGroups: LogGroups,
  { closing, log }: { readonly closing: AbortSignal; readonly log: Log },
): void {
  own(
    "ListLogGroups",
    (request) => check(groupsQuery, queryOf(request)),
    (query, context) => logGroups.groups(context, { prefix: query.prefix }, query),
  );
  own(
    "ListLogStreams",
    (request) => check(streamsQuery, queryOf(request)),
    (query, context) => {
      const order = { prefix: query.prefix, by: query.orderBy, descending: query.orderBy === "time" };
      return logGroups.streams(context, query.group, order, query);
    },
  );
  own(
    "ReadLogEvents",
    (request) => check(eventsQuery, queryOf(request)),
    async ({ group, stream, prefix, from, to, filter: pattern, follow }, context, reply) => {
      const signal = AbortSignal.any([context.signal, closing]);
      const streams = stream === undefined ? undefined : [stream];
      const events = logGroups.follow(context, group, { streams, prefix, from, to, pattern, follow }, signal);
      await streamReply(reply, "application/x-ndjson", jsonLines(events), signal, log);
    },
  );
}
