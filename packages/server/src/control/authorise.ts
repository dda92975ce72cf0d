import { type ImageArn, parseImageArn } from "@torpor/protocol";
import { invalidInput, TorporError } from "../lib/errors.ts";
import type { RequestContext } from "./request-context.ts";

/**
 * The image that an operation on images names.
 * @throws TorporError as the service does: malformed, or of another account, before any look at what exists
 */
export function ownImage(operation: string, identifier: string, context: RequestContext): ImageArn {
  const arn = parseImageArn(identifier);
  if (!arn) throw invalidInput(`Invalid ARN format: ${identifier}`);
  refuseForeign(operation, identifier, arn, context);
  return arn;
}

/** @throws TorporError `denied` when the resource is another account's; the service's own (`aws`) are nobody's. */
export function refuseForeign(
  operation: string,
  identifier: string,
  arn: Pick<ImageArn, "account">,
  context: RequestContext,
): void {
  if (arn.account === context.accountId || arn.account === "aws") return;
  throw new TorporError(
    "denied",
    `User: ${context.principalArn} is not authorized to perform: lambda:${operation} on resource: ${identifier} because no identity-based policy allows the lambda:${operation} action`,
  );
}

/** `1` for both `1` and `1.0`; undefined when it cannot be a version. */
export function parseVersion(text: string): number | undefined {
  const match = /^(\d{1,9})(\.0)?$/.exec(text);
  return match ? Number(match[1]) : undefined;
}

export const formatVersion = (version: number): string => `${version}.0`;
