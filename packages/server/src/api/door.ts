import type { AuditEvent, Permission } from "@torpor/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { DeniedError } from "../control/authorise.ts";
import type { RequestContext } from "../control/request-context.ts";
import type { Clock } from "../lib/clock.ts";
import type { Asked, Identify } from "./caller.ts";
import { toWireError } from "./wire-errors.ts";

/** Whether a caller may do something. */
export interface Admission {
  /** @returns the resource that was decided about. @throws TorporError `denied` */
  admit(
    action: string,
    permission: Permission,
    input: Readonly<Record<string, unknown>>,
    context: RequestContext,
  ): Promise<string>;
}

/** Where changes are written down. */
export interface Audit {
  /** Before a change is begun. @throws TorporError `unavailable` while it could not be written down */
  ready(): Promise<void>;
  /** Resolves when it is on the disk. @throws TorporError `unavailable` */
  append(event: AuditEvent): Promise<void>;
}

/** What the door has to know of an operation. */
export interface Guarded {
  /** `lambda:RunMicrovm` */
  readonly action: string;
  /** Whether it changes anything: then it is written down. */
  readonly changes: boolean;
  /** Of success. */
  readonly status: number;
  readonly permission: Permission;
  /** Names of the errors that the operation's model has, where there is a model. */
  readonly errors?: readonly string[];
  readonly asked?: Asked;
}

export interface DoorDeps {
  readonly identify: Identify;
  readonly admission: Admission;
  readonly audit: Audit;
  readonly clock: Clock;
}

/**
 * The way into every operation but S3's: who asks, what for, whether they may, and, where something is changed, that it
 * is written down before the answer says that it was done.
 */
export type Door = <I extends object, O>(
  operation: Guarded,
  request: FastifyRequest,
  reply: FastifyReply,
  /** What is asked for. @throws what the caller is told */
  read: (request: FastifyRequest, context: RequestContext) => I,
  act: (input: I, context: RequestContext) => Promise<O>,
) => Promise<O>;

export function createDoor({ identify, admission, audit, clock }: DoorDeps): Door {
  return async (operation, request, reply, read, act) => {
    const { action, permission } = operation;
    const context = await identify(request, reply, operation.asked);
    let resource: string | null = null;
    const carryOut = async () => {
      const input = read(request, context);
      resource = await admission.admit(action, permission, Object.fromEntries(Object.entries(input)), context);
      return await act(input, context);
    };
    if (!operation.changes) return await carryOut();

    const record = async (target: readonly string[], status: number, error: string | null): Promise<void> => {
      const time = new Date(clock.now()).toISOString();
      const what = { operation: action, resource, target: [...new Set(target)].join(" ") || null };
      await audit.append(auditEvent(context, { time, ...what, status, error }));
    };
    await audit.ready();
    const named = namedBy(request.params, permission);
    let output: Awaited<ReturnType<typeof act>>;
    try {
      output = await carryOut();
    } catch (err) {
      const { status, type } = toWireError(err, operation.errors);
      if (err instanceof DeniedError) resource = err.resource;
      await record(named, status, type);
      throw err;
    }
    await record([...named, ...madeBy(output)], operation.status, null);
    return output;
  };
}

type Outcome = Pick<AuditEvent, "time" | "operation" | "resource" | "target" | "status" | "error">;

/** Texts of callers are cut: a line stays a line of bounded length. */
export function auditEvent(
  context: Pick<RequestContext, "accountId" | "accessKeyId" | "keyName" | "sourceIp" | "requestId">,
  { time, operation, resource, target, status, error }: Outcome,
): AuditEvent {
  const { accountId, accessKeyId, keyName, sourceIp, requestId } = context;
  return {
    time,
    accountId,
    accessKeyId,
    keyName,
    sourceIp,
    operation,
    resource: resource && cut(resource),
    target: target && cut(target),
    requestId,
    status,
    error,
  };
}

const MAX_TEXT = 2048;
const cut = (text: string): string => (text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT).toWellFormed()}…`);

/** What the path names, but for what the permission was asked for. */
function namedBy(params: unknown, { on }: Permission): string[] {
  return Object.entries(Object(params)).flatMap(([label, value]) =>
    typeof value === "string" && !(on.kind === "arn" && on.member === label) ? [value] : [],
  );
}

/** Members of answers that tell what has been made; a key's account is in the resource. */
const MADE = ["microvmId", "checkpointId", "accessKeyId", "imageVersion"] as const;

function madeBy(output: unknown): string[] {
  if (typeof output !== "object" || output === null) return [];
  const members = new Map<string, unknown>(Object.entries(output));
  const items = members.get("items");
  if (members.has("rootKey")) return [String(members.get("accountId")), ...madeBy(members.get("rootKey"))];
  const own = MADE.flatMap((name) => {
    const value = members.get(name);
    return typeof value === "string" ? [value] : [];
  });
  return [...own, ...(Array.isArray(items) ? items.flatMap(madeBy) : [])];
}
