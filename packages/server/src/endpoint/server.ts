import type { EventEmitter } from "node:events";
import {
  createServer as createPlainServer,
  type ServerOptions as HttpOptions,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer } from "node:https";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { EndpointGate } from "../control/endpoint-gate.ts";
import type { TokenService } from "../control/token/token.ts";
import { plainAddress } from "../lib/address-list.ts";
import type { Clock } from "../lib/clock.ts";
import { errnoOf, messageOf, TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { EndpointCertificates } from "./authority.ts";
import { Http1Client, type Linger, rawRefusal } from "./client/http1-client.ts";
import { acceptHttp2 } from "./client/http2-session.ts";
import { type Connection, Connections } from "./connection.ts";
import { type EndpointParts, exchange } from "./exchange.ts";
import { type Front, NO_FRONT } from "./front.ts";
import { DEFAULT_LIMITS, type EndpointLimits } from "./limits.ts";
import { Peers } from "./peers.ts";
import { clientOf, NO_PLACE, Places } from "./places.ts";
import { readProxyHeader } from "./proxy/read-proxy-header.ts";
import { EXPECTATION_FAILED, HEADER_TIMEOUT, HEADER_TOO_LARGE, MALFORMED, type Refusal } from "./refusal.ts";
import { mayUpgrade } from "./request-head.ts";
import { Silence } from "./silence.ts";
import { rotateTicketKeys, TLS } from "./tls.ts";
import { tunnel } from "./tunnel.ts";

export interface EndpointOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  /** Microvms are at `<label>.<domain>`. */
  readonly domain: string;
  readonly tls: Pick<EndpointCertificates, "current" | "onRenewal">;
  /** Without, it is in nobody's shadow. */
  readonly front?: Partial<Front>;
  readonly gate: EndpointGate;
  readonly tokens: TokenService;
  readonly log: Log;
  readonly clock: Clock;
  readonly limits?: Partial<EndpointLimits>;
}

/** The microvms' HTTPS endpoint. */
export interface EndpointServer extends AsyncDisposable {
  /** @throws TorporError when the address cannot be listened on; it names the setting to change */
  listen(): Promise<void>;
  /** Where it listens. @throws Error before `listen` */
  readonly address: { readonly host: string; readonly port: number };
  /** Cuts every connection; resolves when all requests have let go of their microvms. */
  close(): Promise<void>;
}

export function createEndpointServer(options: EndpointOptions): EndpointServer {
  const { host, port, domain, tls, gate, tokens, log, clock } = options;
  const limits: EndpointLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const front: Front = { ...NO_FRONT, ...options.front };
  const addresses = new Places(limits.maxConnectionsPerAddress);
  const parts: EndpointParts = {
    rules: { domain, tokens, gate },
    door: { gate, places: new Places(limits.maxConnectionsPerMicrovm), clock, limits },
    visitors: { proxies: front, addresses, forwarded: front.forwarded },
    silence: new Silence(clock, limits.silenceMs),
    limits,
    clock,
    log,
  };
  const linger: Linger = { clock, ms: limits.lingerMs };
  const connections = new Connections();
  const sockets = new Set<Socket>();
  const running = new Set<Promise<void>>();
  const run = (socket: Socket, serve: (connection: Connection) => Promise<void>): Promise<void> => {
    const work = serve(connections.of(socket)).catch((err: unknown) => {
      log.error({ err }, "endpoint connection failed");
      socket.destroy();
    });
    running.add(work);
    return work.finally(() => running.delete(work));
  };

  const http: HttpOptions = {
    insecureHTTPParser: false,
    requireHostHeader: false, // ours checks it, and answers in our words
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headerTimeoutMs,
    requestTimeout: 0, // uploads may take as long as they move
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, Math.max(50, limits.headerTimeoutMs / 4)),
    keepAlive: true, // TCP's own, for clients that vanish from a silent stream
    keepAliveInitialDelay: 60_000,
    shouldUpgradeCallback: mayUpgrade,
  };
  const secure = front.plainHttp
    ? undefined
    : createServer({
        ...http,
        allowHalfOpen: true, // in a tunnel each side ends by itself; before that, Node ends both
        key: tls.current.key,
        cert: tls.current.certificate,
        ...TLS,
        ALPNProtocols: ["h2", "http/1.1"],
        handshakeTimeout: limits.headerTimeoutMs,
      });
  const server = secure ?? createPlainServer(http);
  server.maxHeadersCount = 0; // at a limit Node drops lines without a word, framing included; we count them ourselves
  server.maxConnections = limits.maxConnections;

  // The handshake has chosen a protocol: HTTP/1.1 is Node's server's own, as it would be without us.
  const serveHttp1 = takeOver(server, secure ? "secureConnection" : "connection");
  const begin = secure ? takeOver(secure, "connection") : (socket: Socket) => serve(socket);
  const serve = (socket: Socket): void => {
    const connection = connections.add(socket, peers.of(socket));
    if (!(socket instanceof TLSSocket) || socket.alpnProtocol !== "h2") serveHttp1(socket);
    else acceptHttp2(connection, limits, clock, (client) => run(socket, () => exchange(client, connection, parts)));
  };
  secure?.on("secureConnection", serve);
  const peers = new Peers();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    const { remoteAddress } = socket;
    const trusted = remoteAddress !== undefined && front.trusted.has(remoteAddress);
    if (remoteAddress === undefined || (front.plainHttp && !trusted)) {
      log.debug({ client: remoteAddress }, "endpoint connection refused: not of a trusted proxy");
      socket.destroy();
    } else if (front.proxyProtocol && trusted) {
      socket.on("error", () => {}); // its end is watched
      readProxyHeader(socket, clock, limits.headerTimeoutMs).then(
        ({ client }) => accept(socket, plainAddress(client ?? remoteAddress)),
        (err: unknown) => {
          log.warn({ proxy: remoteAddress, reason: messageOf(err) }, "endpoint connection refused");
          socket.destroy();
        },
      );
    } else accept(socket, plainAddress(remoteAddress));
  });
  /** A proxy's connections are many clients': of those each request counts, by what the proxy says. */
  const accept = (socket: Socket, peer: string): void => {
    const place = front.trusted.has(peer) ? NO_PLACE : addresses.take(clientOf(peer));
    if (place === undefined || socket.destroyed) {
      place?.[Symbol.dispose]();
      socket.destroy();
      return;
    }
    socket.once("close", () => place[Symbol.dispose]());
    peers.add(socket, peer);
    begin(socket);
  };
  const onHttp1 = (serve: (client: Http1Client, connection: Connection) => Promise<void>) => {
    return (req: IncomingMessage, res: ServerResponse): void => {
      const connection = connections.of(req.socket);
      const client = new Http1Client(req, res, connection, linger);
      if (connection.exchanges >= limits.maxPipelined) client.cut();
      else void run(req.socket, () => connection.inTurn(() => serve(client, connection)));
    };
  };
  const onRequest = onHttp1((client, connection) => exchange(client, connection, parts));
  server.on("request", onRequest);
  server.on("checkContinue", onRequest);
  server.on(
    "checkExpectation",
    onHttp1(async (client) => client.refuse(EXPECTATION_FAILED)),
  );
  server.on("connect", (_req: IncomingMessage, socket: Duplex) => refuseRaw(socket, MALFORMED));
  server.on("upgrade", (req: IncomingMessage, _socket: Duplex, first: Buffer) => {
    void run(req.socket, (connection) => tunnel(req, first, connection, parts));
  });
  server.on("clientError", (err: Error, socket: Duplex) => {
    log.debug({ code: errnoOf(err) }, "endpoint request malformed");
    refuseRaw(socket, parserRefusal(errnoOf(err)));
  });
  /** Where Node has no response for us. In the middle of an earlier answer only a cut is safe. */
  const refuseRaw = (socket: Duplex, refusal: Refusal): void => {
    const busy = socket instanceof Socket && connections.has(socket) && connections.of(socket).exchanges > 0;
    socket.on("error", () => {});
    if (busy || !socket.writable) socket.destroy();
    else socket.end(rawRefusal(refusal), () => socket.destroy());
  };
  secure?.on("tlsClientError", (err) => log.debug({ code: errnoOf(err) }, "endpoint handshake failed"));
  tls.onRenewal((renewed) => secure?.setSecureContext({ ...TLS, key: renewed.key, cert: renewed.certificate }));
  const tickets = secure && rotateTicketKeys(secure, clock);

  async function listen(): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host, port }, () => {
          server.off("error", reject);
          resolve();
        });
      });
    } catch (err) {
      throw cannotListen(host, port, err);
    }
    server.on("error", (err) => log.error({ err }, "endpoint server failed"));
    log.info({ host, port: addressOf().port, domain }, "endpoint listens");
  }

  function addressOf(): { host: string; port: number } {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("the endpoint does not listen");
    return { host: address.address, port: address.port };
  }

  async function close(): Promise<void> {
    tickets?.[Symbol.dispose]();
    const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined;
    for (const socket of sockets) socket.destroy();
    await closed;
    await Promise.allSettled(running);
  }

  return {
    listen,
    get address() {
      return addressOf();
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** What Node's server does with its connections, which from now on are ours to hand to it. */
function takeOver(server: EventEmitter, event: string): (socket: Socket) => void {
  const [listener] = server.listeners(event);
  if (listener === undefined) throw new Error("this version of Node serves connections in another way");
  server.removeAllListeners(event);
  return (socket) => void listener.call(server, socket);
}

function parserRefusal(code: string | undefined): Refusal {
  if (code === "HPE_HEADER_OVERFLOW") return HEADER_TOO_LARGE;
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return HEADER_TIMEOUT;
  return MALFORMED;
}

function cannotListen(host: string, port: number, err: unknown): TorporError {
  const code = errnoOf(err);
  const where = `cannot listen on ${host}:${port} for the microvms' endpoint`;
  const next = "set endpoint-port to another port, or to 0 for any free one";
  if (code === "EADDRINUSE")
    return new TorporError("unavailable", `${where}: the port is in use; stop what uses it, or ${next}`, {
      cause: err,
    });
  if (code === "EACCES")
    return new TorporError("unavailable", `${where}: not permitted; ${next}, above 1023`, { cause: err });
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return new TorporError("unavailable", `${where}: this machine has no such address; set endpoint-host`, {
      cause: err,
    });
  return new TorporError("unavailable", `${where}: ${messageOf(err)}`, { cause: err });
}
