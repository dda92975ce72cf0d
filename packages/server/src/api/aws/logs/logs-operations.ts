import {
  anything,
  logGroupIn,
  logStreamIn,
  type Members,
  type Permission,
  type StructureValue,
} from "@torpor/protocol";
import type { RequestContext } from "../../../control/request-context.ts";
import { invalidInput } from "../../../lib/errors.ts";
import type { LogGroups } from "../../own/extensions.ts";
import { DESCRIBE_LOG_GROUPS, DESCRIBE_LOG_STREAMS, FILTER_LOG_EVENTS, GET_LOG_EVENTS } from "./shapes.ts";

/** One operation: what it takes, and what it makes of that. The answer is its JSON. */
export interface LogsOperation {
  readonly input: Members;
  readonly permission: Permission;
  readonly run: (input: never, context: RequestContext, logs: LogGroups) => Promise<object>;
}

const operation = <const M extends Members>(
  input: M,
  on: Permission["on"],
  run: (input: StructureValue<M>, context: RequestContext, logs: LogGroups) => Promise<object>,
): LogsOperation => ({ input, permission: { on }, run });

const NAMED = ["logGroupName", "logGroupIdentifier"];

/** The operations of CloudWatch Logs that readers of logs need, as `aws logs tail` and the consoles do. */
export const LOGS_OPERATIONS: Readonly<Record<string, LogsOperation>> = {
  DescribeLogGroups: operation(DESCRIBE_LOG_GROUPS, anything, async (input, context, logs) => {
    if (input.logGroupIdentifiers) throw invalidInput("logGroupIdentifiers is not supported. Use logGroupNamePrefix.");
    if (input.logGroupNamePrefix && input.logGroupNamePattern)
      throw invalidInput("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.");
    const elsewhere =
      input.accountIdentifiers?.every((id) => id !== context.accountId) && !!input.accountIdentifiers[0];
    // All are of the class STANDARD, and of one account.
    if (elsewhere || (input.logGroupClass ?? "STANDARD") !== "STANDARD") return { logGroups: [] };
    const filter = { prefix: input.logGroupNamePrefix, infix: input.logGroupNamePattern };
    const page = await logs.groups(context, filter, { maxResults: input.limit, nextToken: input.nextToken });
    return {
      logGroups: page.items.map(({ name, arn, createdAt, bytes }) => ({
        logGroupName: name,
        creationTime: createdAt,
        metricFilterCount: 0,
        arn: `${arn}:*`,
        storedBytes: bytes,
        logGroupClass: "STANDARD",
        logGroupArn: arn,
      })),
      ...tokenOf(page),
    };
  }),

  DescribeLogStreams: operation(DESCRIBE_LOG_STREAMS, logGroupIn(...NAMED), async (input, context, logs) => {
    if (input.orderBy === "LastEventTime" && input.logStreamNamePrefix)
      throw invalidInput("Cannot order by LastEventTime with a logStreamNamePrefix.");
    const order = {
      prefix: input.logStreamNamePrefix,
      by: input.orderBy === "LastEventTime" ? "time" : "name",
      descending: input.descending ?? false,
    } as const;
    const page = await logs.streams(context, groupOf(input), order, {
      maxResults: input.limit,
      nextToken: input.nextToken,
    });
    return {
      logStreams: page.items.map(({ name, arn, createdAt, firstTime, lastTime, lastIngested }) => ({
        logStreamName: name,
        creationTime: createdAt,
        ...(firstTime !== undefined && { firstEventTimestamp: firstTime }),
        ...(lastTime !== undefined && { lastEventTimestamp: lastTime }),
        ...(lastIngested !== undefined && { lastIngestionTime: lastIngested }),
        arn,
        storedBytes: 0,
      })),
      ...tokenOf(page),
    };
  }),

  GetLogEvents: operation(GET_LOG_EVENTS, logStreamIn("logStreamName", ...NAMED), async (input, context, logs) => {
    const { startTime, endTime, limit, nextToken } = input;
    const found = await logs.events(context, groupOf(input), input.logStreamName, {
      from: startTime,
      to: endTime === undefined || endTime === null ? undefined : endTime - 1, // what is as late is not in it
      limit,
      nextToken,
      fromHead: input.startFromHead ?? false,
    });
    return {
      events: found.items.map(({ time, text, ingested }) => ({
        timestamp: time,
        message: text,
        ingestionTime: ingested,
      })),
      nextForwardToken: found.forward,
      nextBackwardToken: found.backward,
    };
  }),

  FilterLogEvents: operation(FILTER_LOG_EVENTS, logGroupIn(...NAMED), async (input, context, logs) => {
    if (input.logStreamNames && input.logStreamNamePrefix)
      throw invalidInput("logStreamNamePrefix and logStreamNames are mutually exclusive parameters.");
    const page = await logs.search(context, groupOf(input), {
      streams: input.logStreamNames,
      prefix: input.logStreamNamePrefix,
      from: input.startTime,
      to: input.endTime,
      pattern: input.filterPattern,
      limit: input.limit,
      nextToken: input.nextToken,
    });
    return {
      events: page.items.map(({ id, stream, time, text, ingested }) => ({
        logStreamName: stream,
        timestamp: time,
        message: text,
        ingestionTime: ingested,
        eventId: id,
      })),
      searchedLogStreams: [],
      ...tokenOf(page),
    };
  }),
};

interface GroupInput {
  readonly logGroupName?: string | null | undefined;
  readonly logGroupIdentifier?: string | null | undefined;
}

function groupOf({ logGroupName, logGroupIdentifier }: GroupInput): string {
  if (logGroupName && logGroupIdentifier)
    throw invalidInput("LogGroup name and LogGroup identifier are mutually exclusive parameters.");
  const named = logGroupName ?? logGroupIdentifier;
  if (!named) throw invalidInput("Either LogGroup name or LogGroup identifier must be given.");
  return named;
}

const tokenOf = ({ nextToken }: { readonly nextToken: string | null }): { readonly nextToken?: string } =>
  nextToken === null ? {} : { nextToken };
