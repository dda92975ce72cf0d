import { OWN_OPERATIONS, type OwnOperation, type OwnOperationName } from "@torpor/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { RequestContext } from "../../control/request-context.ts";
import type { Door } from "../door.ts";

/**
 * Gives one of Torpor's own operations its route, as the table has it: `read` says what is asked for (permissions are
 * looked up in it by name), `act` does it and returns the JSON that is answered, unless it has begun to stream.
 */
export type OwnRoute = <I extends object>(
  name: OwnOperationName,
  read: (request: FastifyRequest) => I,
  act: (input: I, context: RequestContext, reply: FastifyReply) => Promise<unknown>,
) => void;

export function ownRoutes(app: FastifyInstance, door: Door): OwnRoute {
  return (name, read, act) => {
    const operation: OwnOperation = OWN_OPERATIONS[name];
    const guarded = { action: `torpor:${name}`, changes: operation.method !== "GET", ...operation };
    app.route({
      method: operation.method,
      url: operation.uri.replace(/\{(\w+)\}/g, ":$1"),
      config: { operation: name },
      handler: async (request, reply) => {
        const output = await door(guarded, request, reply, read, (input, context) => act(input, context, reply));
        if (reply.sent) return;
        return reply.code(operation.status).send(output);
      },
    });
  };
}
