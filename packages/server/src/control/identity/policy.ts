import { z } from "zod";
import { invalidInput } from "../../lib/errors.ts";
import { matchesGlob } from "./glob.ts";

/** What a key may do, in IAM's shape. Only `parsePolicy` makes one. */
export interface Policy {
  readonly statements: readonly Statement[];
}
interface Statement {
  readonly effect: "Allow" | "Deny";
  /** In lower case: IAM does not tell `lambda:RunMicrovm` from `lambda:runmicrovm`. */
  readonly actions: readonly string[];
  readonly resources: readonly string[];
}
/** What a key may do: everything in its account, or what its policy says. */
export type Access = "full" | Policy;

export type Decision = "allowed" | "not allowed" | "denied";

/** As IAM's managed policies. */
export const MAX_POLICY_BYTES = 6144;
const MAX_STATEMENTS = 50;
const MAX_PATTERNS = 100;
const VERSION = "2012-10-17";

/** Members that IAM has and that are not evaluated here: a policy with one would not mean what it says. */
const REFUSED: Readonly<Record<string, string>> = {
  NotAction: "name the actions in Action",
  NotResource: "name the resources in Resource",
  Condition: "statements here hold whatever the circumstances",
  Principal: "the policy's principal is the key that it belongs to",
  NotPrincipal: "the policy's principal is the key that it belongs to",
};

const action = z
  .string("expected a text")
  .regex(
    /^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$/,
    "expected *, or a service and the name of an action such as lambda:RunMicrovm, with * and ? as wildcards",
  );
const resource = z
  .string("expected a text")
  .regex(/^(\*|arn:[^:]*:[^:]*:[^:]*:.+)$/s, "expected *, or an ARN with * and ? as wildcards")
  .refine((text) => !/\$\{/.test(text), "policy variables, a name in braces after a dollar sign, are not supported");

const oneOrMore = (pattern: z.ZodType<string>) =>
  z
    .preprocess((value) => (Array.isArray(value) ? value : [value]), z.array(pattern))
    .refine((list) => list.length > 0 && list.length <= MAX_PATTERNS, `expected 1 to ${MAX_PATTERNS} texts`);

const statement = z.strictObject({
  Sid: z.string("expected a text").optional(),
  Effect: z.enum(["Allow", "Deny"], "expected Allow or Deny"),
  Action: oneOrMore(action),
  Resource: oneOrMore(resource),
});
const document = z.strictObject({
  Version: z.literal(VERSION, `expected "${VERSION}"`),
  Id: z.string("expected a text").optional(),
  Statement: z
    .preprocess((value) => (Array.isArray(value) ? value : [value]), z.array(statement))
    .refine((list) => list.length > 0 && list.length <= MAX_STATEMENTS, `expected 1 to ${MAX_STATEMENTS} statements`),
});

/**
 * The policy in a document that was parsed as JSON.
 * @throws TorporError `invalid_input` that names what is wrong; nothing of a document is ever left unread
 */
export function parsePolicy(value: unknown): Policy {
  if (typeof value !== "object" || value === null) throw invalidInput("The policy is not a JSON object.");
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > MAX_POLICY_BYTES)
    throw invalidInput(`The policy must not be larger than ${MAX_POLICY_BYTES} bytes, got ${bytes}.`);
  const parsed = document.safeParse(value);
  if (!parsed.success) throw invalidInput(`The policy is not accepted: ${problemsOf(parsed.error)}.`);
  return {
    statements: parsed.data.Statement.map(({ Effect, Action, Resource }) => ({
      effect: Effect,
      actions: Action.map((pattern) => pattern.toLowerCase()),
      resources: Resource,
    })),
  };
}

function problemsOf(error: z.ZodError): string {
  return error.issues
    .flatMap((issue) => {
      if (issue.code !== "unrecognized_keys") return [`${issue.path.join(".") || "it"}: ${issue.message}`];
      return issue.keys.map((key) => {
        const why = Object.hasOwn(REFUSED, key) ? `is not supported: ${REFUSED[key]}` : "is no member of a policy";
        return [...issue.path, `${key.slice(0, 64).toWellFormed()} ${why}`].join(".");
      });
    })
    .join("; ");
}

/** A statement that denies wins over all that allow; what none allows is not allowed. */
export function decide(policy: Policy, action: string, resource: string): Decision {
  const about = policy.statements.filter(
    ({ actions, resources }) =>
      covers(actions, action.toLowerCase()) && resources.some((pattern) => matchesGlob(pattern, resource)),
  );
  if (about.some(({ effect }) => effect === "Deny")) return "denied";
  return about.some(({ effect }) => effect === "Allow") ? "allowed" : "not allowed";
}

/** True when there is something that the action is allowed on: who may ask at all is told what does not exist. */
export function allowsSomewhere(policy: Policy, action: string): boolean {
  return policy.statements.some(({ effect, actions }) => effect === "Allow" && covers(actions, action.toLowerCase()));
}

const covers = (patterns: readonly string[], action: string): boolean =>
  patterns.some((pattern) => matchesGlob(pattern, action));
