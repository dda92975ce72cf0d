import { boolean, enumeration, integer, list, type Members, optional, required, string } from "@torpor/protocol";

/** Inputs of CloudWatch Logs' operations. Source: its service model, API version 2014-03-28. */
const groupName = string({ min: 1, max: 512, pattern: "[\\.\\-_/#A-Za-z0-9]+" });
const groupIdentifier = string({ min: 1, max: 2048, pattern: "[\\w#+=/:,.@-]*" });
const streamName = string({ min: 1, max: 512, pattern: "[^:*]*" });
const token = string({ min: 1 });
const time = integer({ min: 0 });
const listLimit = integer({ min: 1, max: 50 });
const eventsLimit = integer({ min: 1, max: 10_000 });
const group = { logGroupName: optional(groupName), logGroupIdentifier: optional(groupIdentifier) };

export const DESCRIBE_LOG_GROUPS = {
  accountIdentifiers: optional(list(string({ min: 12, max: 12, pattern: "\\d{12}" }), { max: 20 })),
  logGroupNamePrefix: optional(groupName),
  logGroupNamePattern: optional(string({ max: 512, pattern: "[\\.\\-_/#A-Za-z0-9]*" })),
  nextToken: optional(token),
  limit: optional(listLimit),
  includeLinkedAccounts: optional(boolean()),
  logGroupClass: optional(enumeration(["STANDARD", "INFREQUENT_ACCESS", "DELIVERY"])),
  logGroupIdentifiers: optional(list(groupIdentifier, { min: 1, max: 50 })),
} as const satisfies Members;

export const DESCRIBE_LOG_STREAMS = {
  ...group,
  logStreamNamePrefix: optional(streamName),
  orderBy: optional(enumeration(["LogStreamName", "LastEventTime"])),
  descending: optional(boolean()),
  nextToken: optional(token),
  limit: optional(listLimit),
} as const satisfies Members;

export const GET_LOG_EVENTS = {
  ...group,
  logStreamName: required(streamName),
  startTime: optional(time),
  endTime: optional(time),
  nextToken: optional(token),
  limit: optional(eventsLimit),
  startFromHead: optional(boolean()),
  unmask: optional(boolean()),
} as const satisfies Members;

export const FILTER_LOG_EVENTS = {
  ...group,
  logStreamNames: optional(list(streamName, { min: 1, max: 100 })),
  logStreamNamePrefix: optional(streamName),
  startTime: optional(time),
  endTime: optional(time),
  filterPattern: optional(string({ max: 1024 })),
  nextToken: optional(token),
  limit: optional(eventsLimit),
  interleaved: optional(boolean()),
  unmask: optional(boolean()),
} as const satisfies Members;
