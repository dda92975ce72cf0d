import { type ImageArn, parseImageArn } from "@torpor/protocol";
import { invalidInput, TorporError } from "../lib/errors.ts";
import { allowsSomewhere, decide } from "./identity/policy.ts";
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
  if (isForeign(arn.account, context)) throw notAllowed(`lambda:${operation}`, identifier, context);
}

/** What was denied, besides the words for it. */
export class DeniedError extends TorporError {
  readonly resource: string;

  constructor(resource: string, message: string) {
    super("denied", message);
    this.resource = resource;
  }
}

export type Caller = Pick<RequestContext, "accountId" | "principalArn" | "access">;

/**
 * The caller may do this, by account and by policy.
 * @throws TorporError `denied` in IAM's words; nothing was looked up for it
 */
export function authorise(action: string, resource: string, caller: Caller): void {
  if (isForeign(accountIn(resource), caller)) throw notAllowed(action, resource, caller);
  authoriseByPolicy(action, resource, caller);
}

/** As `authorise`, where it has been settled otherwise that the account may. */
export function authoriseByPolicy(action: string, resource: string, caller: Caller): void {
  if (caller.access === "full") return;
  const decision = decide(caller.access, action, resource);
  if (decision === "denied")
    throw new DeniedError(
      resource,
      `${request(action, resource, caller)} with an explicit deny in an identity-based policy`,
    );
  if (decision === "not allowed") throw notAllowed(action, resource, caller);
}

/** For what does not exist: only who may do this to something is to hear so. @throws TorporError `denied` */
export function authoriseAsking(action: string, caller: Caller): void {
  if (caller.access !== "full" && !allowsSomewhere(caller.access, action)) throw notAllowed(action, "*", caller);
}

/**
 * The caller may hand over a role and connectors.
 * @throws TorporError `denied`
 */
export function authorisePassing(
  passed: { readonly role?: string | null | undefined; readonly connectors?: readonly string[] },
  caller: Caller,
): void {
  if (passed.role) authorise("iam:PassRole", passed.role, caller);
  for (const connector of passed.connectors ?? []) authorise("lambda:PassNetworkConnector", connector, caller);
}

export function notAllowed(action: string, resource: string, caller: Pick<Caller, "principalArn">): DeniedError {
  return new DeniedError(
    resource,
    `${request(action, resource, caller)} because no identity-based policy allows the ${action} action`,
  );
}

const request = (action: string, resource: string, caller: Pick<Caller, "principalArn">): string =>
  `User: ${caller.principalArn} is not authorized to perform: ${action} on resource: ${resource}`;

/** Of any ARN; undefined when it has none, or is no ARN. */
const accountIn = (resource: string): string | undefined => /^arn:[^:]*:[^:]*:[^:]*:(\d{12}):/.exec(resource)?.[1];

const isForeign = (account: string | undefined, caller: Pick<Caller, "accountId">): boolean =>
  account !== undefined && account !== "aws" && account !== caller.accountId;

/** `1` for both `1` and `1.0`; undefined when it cannot be a version. */
export function parseVersion(text: string): number | undefined {
  const match = /^(\d{1,9})(\.0)?$/.exec(text);
  return match ? Number(match[1]) : undefined;
}

export const formatVersion = (version: number): string => `${version}.0`;
