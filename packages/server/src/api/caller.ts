import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { AccessKeys, RequestContext } from "../control/request-context.ts";
import type { Clock } from "../lib/clock.ts";
import { sha256Hex, verifyPayload } from "./sigv4/payload.ts";
import { authenticate, type SignedService } from "./sigv4/sigv4.ts";
import { originOf, type Throttle } from "./throttle.ts";

export interface CallerDeps {
  readonly keys: AccessKeys;
  readonly clock: Clock;
  readonly region: string;
  readonly throttle: Throttle;
  /** Aborted when requests in progress are given up, because the server closes. */
  readonly abandoned: AbortSignal;
}

/** What is asked, where the route alone does not tell. */
export interface Asked {
  /** Whose requests they are: signatures made for others are refused. */
  readonly service: Exclude<SignedService, "s3">;
  /** What rates are counted by. */
  readonly operation: string;
}

/**
 * Finds out who asks, and whether they may now.
 * @throws SignatureError, also when the body is not the one that was signed; TorporError `throttled`
 */
export type Identify = (request: FastifyRequest, reply: FastifyReply, asked?: Asked) => Promise<RequestContext>;

/** Those that are not to be counted as a stranger's: of a known key, or refused before they were looked at. */
const counted = new WeakSet<FastifyRequest>();

export function createIdentify(deps: CallerDeps): Identify {
  return async (request, reply, asked) => {
    const { service, operation } = asked ?? {
      service: "lambda",
      operation: request.routeOptions.config.operation ?? "",
    };
    const bodySha256 = sha256Hex(bodyOf(request));
    const { method = "", url = "", headers, rawHeaders } = request.raw;
    const authenticated = await authenticate({ method, url, headers, rawHeaders, bodySha256 }, deps.keys, {
      now: () => deps.clock.now(),
      // Who somebody is, is the same in every region, and some clients sign that question for us-east-1 always.
      ...(service === "sts" ? {} : { expectedRegion: deps.region }),
      expectedService: service,
    });
    verifyPayload(authenticated, bodySha256);
    const { accountId, principalArn, accessKeyId, name, access } = authenticated.key;
    counted.add(request);
    deps.throttle.acquaintance(originOf(request.raw));
    deps.throttle.operation(accountId, operation);
    deps.keys.used(accessKeyId);
    return {
      requestId: request.id,
      accountId,
      principalArn,
      accessKeyId,
      keyName: name,
      access,
      sourceIp: request.raw.socket.remoteAddress ?? "",
      signal: AbortSignal.any([clientGone(reply), deps.abandoned]),
    };
  };
}

/**
 * Counts requests whose sender nobody could identify, whatever else was wrong with them: the health check and unknown
 * paths are among them, faults of ours are not.
 */
export function limitStrangers(app: FastifyInstance, throttle: Throttle): void {
  app.addHook("onRequest", async (request) => {
    try {
      throttle.admit(originOf(request.raw));
    } catch (err) {
      counted.add(request);
      throw err;
    }
  });
  app.addHook("onResponse", async (request, reply) => {
    if (!counted.has(request) && reply.statusCode < 500) throttle.stranger(originOf(request.raw));
  });
}

/** The body's bytes; none when there was no body. */
export function bodyOf(request: FastifyRequest): Uint8Array {
  return request.body instanceof Uint8Array ? request.body : new Uint8Array();
}

function clientGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  const response = reply.raw;
  const leave = (): void => {
    if (!response.writableFinished) gone.abort(new Error("the client went away"));
  };
  if (response.closed || response.destroyed) leave();
  else response.once("close", leave);
  return gone.signal;
}
