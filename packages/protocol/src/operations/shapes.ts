/** Shapes that several resources have in common. */
import { optional, string, structure, union } from "../shape.ts";

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
