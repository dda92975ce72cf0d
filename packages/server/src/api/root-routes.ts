import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { RequestError } from "./request-error.ts";
import { claimedService } from "./sigv4/authorization.ts";

/** One of AWS's services whose requests all go to `/`, with its own way to say what went wrong. */
export interface RootService {
  handle(request: FastifyRequest, reply: FastifyReply): Promise<unknown>;
  refuse(err: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply;
}

const MAX_BODY_BYTES = 1 << 20;

/** Gives each service the requests to `/` that are signed for it. */
export function registerRoot(app: FastifyInstance, services: Readonly<Record<string, RootService>>): void {
  const serviceOf = ({ raw }: FastifyRequest): RootService | undefined => {
    const service = claimedService(raw.rawHeaders, raw.url ?? "");
    return service !== undefined && Object.hasOwn(services, service) ? services[service] : undefined;
  };
  app.route({
    method: ["GET", "POST"],
    url: "/",
    bodyLimit: MAX_BODY_BYTES,
    handler: async (request, reply) => {
      const service = serviceOf(request);
      if (!service) throw new RequestError("unknown_operation", `There is no operation ${request.method} / here.`);
      return await service.handle(request, reply);
    },
    errorHandler: (err, request, reply) => {
      const service = serviceOf(request);
      if (!service) throw err;
      return service.refuse(err, request, reply);
    },
  });
}
