import { type Members, OPERATIONS, type Operation, type OperationName } from "@torpor/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Operations, RequestContext } from "../../control/request-context.ts";
import type { Door } from "../door.ts";
import type { JsonValue } from "../json.ts";
import { jsonBodyOf } from "../json-body.ts";
import { type Bound, bindInput } from "./bind.ts";
import { allowing } from "./extended-limits.ts";
import { readQuery } from "./query.ts";
import { serializeOutput } from "./serialize.ts";
import { validateInput } from "./validate.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the request is called in logs. */
    readonly operation?: string;
    /** Names of the errors that the operation's model has. */
    readonly errors?: readonly string[];
  }
}

/** A route for each operation of the table: bind → validate → may the caller? → call → serialise. */
export function registerOperations(
  app: FastifyInstance,
  operations: Operations,
  door: Door,
  longestLife: (accountId: string) => number,
): void {
  for (const name of Object.keys(OPERATIONS).filter(isOperationName)) {
    const operation: Operation = OPERATIONS[name];
    const handler: (input: never, context: RequestContext) => Promise<object> = operations[name];
    app.route({
      method: operation.method,
      url: operation.uri.replace(/\{(\w+)\}/g, ":$1"),
      config: { operation: name, errors: operation.errors },
      handler: async (request, reply) => {
        const guarded = { action: `lambda:${name}`, changes: operation.method !== "GET", ...operation };
        const output = await door(
          guarded,
          request,
          reply,
          (_request, { accountId }) => readInput(allowing(name, longestLife(accountId)), request),
          // Bound and validated by the very table that the type of the handler's input is derived from.
          (input, context) => handler(input as never, context),
        );
        if (operation.status === 204) return reply.code(204).send();
        return reply
          .code(operation.status)
          .header("content-type", "application/json")
          .send(Buffer.from(serializeOutput(operation.output, output, operation.unset))); // as text, fastify would add a charset to its type
      },
    });
  }
}

function readInput(operation: Operation, request: FastifyRequest): Bound {
  const input = bindInput(operation.input, {
    labels: { ...Object(request.params) },
    query: readQuery(request.raw.url ?? ""),
    body: readBody(operation.input, request),
  });
  validateInput(operation.input, input);
  return input;
}

/** A body that no member is bound to is not looked at. */
function readBody(members: Members, request: FastifyRequest): JsonValue {
  return Object.values(members).some(({ location }) => location === "body") ? jsonBodyOf(request) : new Map();
}

const isOperationName = (name: string): name is OperationName => Object.hasOwn(OPERATIONS, name);
