import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Config } from "../config.ts";
import type { AccessKeys, Operations } from "../control/request-context.ts";
import type { Clock } from "../lib/clock.ts";
import { errnoOf, messageOf, TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { MAX_HEADER_BYTES, refusalOf } from "./admission.ts";
import { createApp } from "./app.ts";
import { createLogs } from "./aws/logs/logs-service.ts";
import { registerOperations } from "./aws/operation-routes.ts";
import { createSts } from "./aws/sts.ts";
import { createIdentify, limitStrangers } from "./caller.ts";
import { type Admission, type Audit, createDoor } from "./door.ts";
import type { Extensions } from "./own/extensions.ts";
import { registerExtensions } from "./own/routes.ts";
import { refuse, refuseSocket } from "./reply-error.ts";
import { RequestError } from "./request-error.ts";
import { registerRoot } from "./root-routes.ts";
import { claimedService } from "./sigv4/authorization.ts";
import type { Throttle } from "./throttle.ts";

/**
 * Answers one S3 request. It gets the request before anything of its body was read, and before `100 Continue` was sent
 * where the client waits for it. Never rejects.
 */
export type S3Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export interface ApiServerOptions {
  readonly config: Pick<Config, "apiHost" | "apiPort" | "region">;
  /** Torpor's version, for the health check. */
  readonly version: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly keys: AccessKeys;
  readonly throttle: Throttle;
  readonly admission: Admission;
  readonly audit: Audit;
  /** How long the account's microvms may live, in seconds. */
  readonly longestLife: (accountId: string) => number;
  readonly operations: Operations;
  readonly extensions: Extensions;
  readonly s3: S3Handler;
  readonly limits?: Partial<Limits>;
}

export interface Limits {
  /** Until the header lines are complete. */
  readonly headersMs: number;
  /** Until the body is complete; S3's handler watches its own. */
  readonly bodyMs: number;
  /** An idle connection is kept for so long. */
  readonly keepAliveMs: number;
  readonly connections: number;
  /** What close() leaves requests in progress. */
  readonly closeMs: number;
}

const LIMITS: Limits = { headersMs: 10_000, bodyMs: 30_000, keepAliveMs: 65_000, connections: 2048, closeMs: 5000 };

/** Where unsigned requests are not S3's: it would refuse them too, but in its own words. */
const OWN_PATHS = /^\/(torpor\/v1|2025-09-09|2017-03-31|2026-04-04)(\/|$|\?)/;

export interface ApiServer extends AsyncDisposable {
  /** @throws TorporError that names the address and the setting */
  listen(): Promise<void>;
  /** `http://127.0.0.1:4700`; the real port where port 0 was asked for. @throws Error before listen() */
  readonly address: string;
  /** Stops listening, cuts streams off, gives other requests a moment, then ends every connection. */
  close(): Promise<void>;
}

/** The API: AWS's operations, S3, CloudWatch Logs and Torpor's own operations on one port, told apart by the scope of the signature. */
export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { config, log, clock, s3 } = options;
  const limits = { ...LIMITS, ...options.limits };
  const closing = new AbortController();
  const abandoned = new AbortController();
  /** What was asked last on a connection, until it is answered; for ever when the answer ends the connection. */
  const answering = new WeakMap<Duplex, ServerResponse>();
  const server = hardenedServer(limits, answering);
  const { app, handle } = createApp(server, log);
  const { keys, throttle } = options;
  limitStrangers(app, throttle);
  const identify = createIdentify({ keys, throttle, clock, region: config.region, abandoned: abandoned.signal });
  const door = createDoor({ identify, admission: options.admission, audit: options.audit, clock });
  registerRoot(app, { sts: createSts(identify, log), logs: createLogs(options.extensions.logGroups, door, log) });
  registerOperations(app, options.operations, door, options.longestLife);
  registerExtensions(app, {
    extensions: options.extensions,
    door,
    version: options.version,
    log,
    closing: closing.signal,
  });
  await app.ready();

  const dispatch = (request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void => {
    const refusal = refusalOf(request);
    const { socket } = request;
    answering.set(socket, response);
    response.once("close", () => {
      if (!refusal && answering.get(socket) === response) answering.delete(socket);
      // Node has looked for idle connections already: those that were busy then are left to us.
      if (closing.signal.aborted) setImmediate(() => server.closeIdleConnections());
    });
    if (refusal) refuse(response, refusal, randomUUID());
    else if (isForS3(request)) void answerS3(s3, request, response, log);
    else {
      limitBody(request, limits.bodyMs);
      if (expectsContinue) response.writeContinue();
      handle(request, response);
    }
  };
  server.on("request", (request, response) => dispatch(request, response, false));
  server.on("checkContinue", (request, response) => dispatch(request, response, true));

  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= closeServer();
    return closed;
  };
  const closeServer = async (): Promise<void> => {
    closing.abort(new Error("the server is closing"));
    const giveUp = (): void => {
      abandoned.abort(new Error("the server is closing"));
      server.closeAllConnections();
    };
    const cancel = clock.after(limits.closeMs, giveUp);
    await new Promise<void>((resolve) => server.close(() => resolve()));
    cancel();
    abandoned.abort(new Error("the server is closed"));
    await app.close();
  };

  return {
    listen: () => listen(server, config.apiHost, config.apiPort),
    get address() {
      return urlOf(server);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function hardenedServer(limits: Limits, answering: WeakMap<Duplex, ServerResponse>): Server {
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: limits.headersMs,
    connectionsCheckingInterval: Math.max(100, Math.min(5000, limits.headersMs / 2)),
    requestTimeout: 0, // uploads to S3 may take long; limitBody() is for the others
    keepAliveTimeout: limits.keepAliveMs,
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
    insecureHTTPParser: false,
    requireHostHeader: true,
  });
  // With a limit, Node drops the lines beyond it, Content-Length among them: admission.ts counts instead.
  server.maxHeadersCount = 0;
  server.maxConnections = limits.connections;
  server.on("clientError", (err, socket) => {
    if (!socket.writable || errnoOf(err) === "ECONNRESET") return void socket.destroy();
    const answer = answering.get(socket);
    if (answer?.req.complete && !answer.closed) {
      // What follows the request is no HTTP: that must not get in between it and its answer.
      answer.once("close", () => socket.destroy());
      return;
    }
    if (answer?.headersSent) return void socket.destroy();
    refuseSocket(socket, ofParser(errnoOf(err)), randomUUID());
  });
  return server;
}

function ofParser(code: string | undefined): RequestError {
  if (code === "HPE_HEADER_OVERFLOW")
    return new RequestError("too_many_headers", `Header lines must not be longer than ${MAX_HEADER_BYTES} bytes.`);
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return new RequestError("timeout", "The request took too long to arrive.");
  return new RequestError("bad_http", "The request is not HTTP/1.1.");
}

/** By the scope of the signature; what is not signed is S3's, which refuses it, unless the path is one of ours. */
function isForS3(request: IncomingMessage): boolean {
  const url = request.url ?? "";
  const service = claimedService(request.rawHeaders, url);
  return service === undefined ? !OWN_PATHS.test(url) : service === "s3";
}

async function answerS3(s3: S3Handler, request: IncomingMessage, response: ServerResponse, log: Log): Promise<void> {
  try {
    await s3(request, response);
  } catch (err) {
    log.error({ err }, "s3 handler failed");
    response.destroy();
  }
}

/** A body that does not arrive in time ends the connection. */
function limitBody(request: IncomingMessage, ms: number): void {
  const timer = setTimeout(() => {
    if (!request.complete) request.destroy(); // an empty body that nobody reads never emits `end`
  }, ms).unref();
  const stop = (): void => clearTimeout(timer);
  request.once("end", stop).once("close", stop);
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(port, host, resolve);
  try {
    await promise;
  } catch (err) {
    throw listenError(err, host, port);
  } finally {
    server.off("error", reject);
  }
}

function listenError(err: unknown, host: string, port: number): TorporError {
  const advice: Record<string, string> = {
    EADDRINUSE: "something else listens there. End it, or choose another port with api-port",
    EACCES: "the system does not allow it. Choose a port above 1023 with api-port",
    EADDRNOTAVAIL: "this machine has no such address. Choose another one with api-host",
    ENOTFOUND: "there is no such name. Choose another address with api-host",
  };
  const reason = advice[errnoOf(err) ?? ""] ?? `${messageOf(err)}. See api-host and api-port`;
  return new TorporError("unavailable", `The API cannot listen on ${host}:${port}: ${reason}.`, { cause: err });
}

function urlOf(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the API does not listen");
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return `http://${host}:${address.port}`;
}
