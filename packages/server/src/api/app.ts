import { randomUUID } from "node:crypto";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import Fastify, { type FastifyError, type FastifyInstance } from "fastify";
import { errnoOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { errorHeaders, refuse } from "./reply-error.ts";
import { RequestError } from "./request-error.ts";
import { toWireError } from "./wire-errors.ts";

/** Of a request to any operation but S3's. */
export const MAX_BODY_BYTES = 1024 * 1024;

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Fastify as all JSON operations use it: bodies as bytes, one way in which errors are answered. */
export function createApp(
  server: Server,
  log: Log,
): { readonly app: FastifyInstance; readonly handle: RequestHandler } {
  let handle: RequestHandler = (request) => request.destroy();
  const app = Fastify({
    serverFactory: (handler) => {
      handle = handler;
      return server;
    },
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    genReqId: () => randomUUID(),
    requestIdHeader: false,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    clientErrorHandler: () => {}, // server.ts has its own
    routerOptions: { maxParamLength: 8192, querystringParser: () => ({}) }, // query.ts reads the raw query
    frameworkErrors: (err, request, reply) => {
      reply.hijack();
      refuse(reply.raw, ofFramework(err), request.id);
    },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-amzn-requestid", request.id);
  });
  app.addHook("onResponse", async (request, reply) => {
    const { operation } = request.routeOptions.config;
    log.debug({ requestId: request.id, operation, status: reply.statusCode, ms: reply.elapsedTime }, "api request");
  });
  app.setNotFoundHandler((request) => {
    const path = (request.raw.url ?? "").split("?", 1)[0]!.slice(0, 256);
    throw new RequestError("unknown_operation", `There is no operation ${request.method} ${path} here.`);
  });
  app.setErrorHandler((err: FastifyError, request, reply) => {
    const { operation, errors } = request.routeOptions.config;
    const gone = isCutOff(request.raw, err);
    if (gone) log.debug({ requestId: request.id, operation }, "client left during its request");
    const error = toWireError(gone ? cutOff() : ofFramework(err), errors);
    if (error.unexpected) log.error({ err, requestId: request.id, operation }, "api request failed");
    return reply
      .code(error.status)
      .headers(errorHeaders(error, request.id))
      .send(Buffer.from(JSON.stringify(error.body)));
  });
  return { app, handle };
}

/** The client has gone in the middle of its request: nobody's error, and nobody will read the answer. */
const isCutOff = (request: IncomingMessage, err: Error): boolean => !request.complete && errnoOf(err) === "ECONNRESET";
const cutOff = (): RequestError => new RequestError("bad_http", "The connection ended before the request did.");

/** Fastify's own refusals in our terms; anything else as it is. */
export function ofFramework(err: Error & { readonly code?: string; readonly statusCode?: number }): Error {
  if (!err.code?.startsWith("FST_ERR_") || (err.statusCode ?? 500) >= 500) return err;
  if (err.code === "FST_ERR_CTP_BODY_TOO_LARGE")
    return new RequestError("too_large", `The request body must not be larger than ${MAX_BODY_BYTES} bytes.`);
  if (err.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE")
    return new RequestError("unsupported_media_type", "The request body must be of the type application/json.");
  if (err.code === "FST_ERR_BAD_URL") return new RequestError("unreadable", "The path is not percent-encoded UTF-8.");
  return new RequestError("bad_http", err.message);
}
