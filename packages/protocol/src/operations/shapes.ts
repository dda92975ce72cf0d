/** Shapes that several resources have in common. */
import { integer, list, map, optional, query, required, type Shape, string, structure, union } from "../shape.ts";

export const nonBlankString = string({ min: 1, max: 2048, pattern: "[^\\s]+" });
export const roleArn = string({
  min: 20,
  max: 2048,
  pattern: "arn:aws[a-z\\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
});
export const version = string({ min: 1, max: 2048, pattern: "[^\\s]+" });
const loggingDisabled = structure({});
const cloudWatchLogging = structure({
  logGroup: optional(string({ min: 1, max: 512, pattern: "[a-zA-Z0-9_\\-/.#]+" })),
  logStream: optional(string({ min: 1, max: 512, pattern: "[^:*]*" })),
});
export const logging = union({ disabled: optional(loggingDisabled), cloudWatch: optional(cloudWatchLogging) });
export const microvmImageIdentifier = string({ min: 1, max: 256 });
const TAG_TEXT = "([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)";
export const tagKey = string({ min: 1, max: 128, pattern: TAG_TEXT });
export const tags = map(tagKey, string({ min: 0, max: 256, pattern: TAG_TEXT }));

/** What a list is asked for, and what is answered. */
export const pageRequest = { maxResults: query(integer({ min: 1, max: 50 })), nextToken: query(string()) };
export const pageOf = <S extends Shape>(item: S) => ({ items: required(list(item)), nextToken: optional(string()) });

/** The errors that operations have in common, by what they do. */
export const LIST_ERRORS = [
  "AccessDeniedException",
  "InternalServerException",
  "ThrottlingException",
  "ValidationException",
] as const;
export const READ_ERRORS = [
  "AccessDeniedException",
  "InternalServerException",
  "ResourceNotFoundException",
  "ThrottlingException",
  "ValidationException",
] as const;
export const CHANGE_ERRORS = [
  "AccessDeniedException",
  "ConflictException",
  "InternalServerException",
  "ResourceNotFoundException",
  "ThrottlingException",
  "ValidationException",
] as const;
export const BUILD_ERRORS = [
  "AccessDeniedException",
  "ConflictException",
  "InternalServerException",
  "ResourceNotFoundException",
  "ServiceQuotaExceededException",
  "ThrottlingException",
  "ValidationException",
] as const;
