import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { EndpointGate } from "../control/endpoint-gate.ts";
import type { TokenService } from "../control/token/token.ts";
import type { Clock } from "../lib/clock.ts";
import { errnoOf, messageOf, TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { EndpointCertificates } from "./authority.ts";
import { Http1Client, type Linger, rawRefusal } from "./client/http1-client.ts";
import { acceptHttp2 } from "./client/http2-session.ts";
import { type Connection, Connections } from "./connection.ts";
import { type EndpointParts, exchange } from "./exchange.ts";
import { DEFAULT_LIMITS, type EndpointLimits } from "./limits.ts";
import { clientOf, Places } from "./places.ts";
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
  const parts: EndpointParts = {
    rules: { domain, tokens, gate },
    door: { gate, places: new Places(limits.maxConnectionsPerMicrovm), clock, limits },
    silence: new Silence(clock, limits.silenceMs),
    limits,
    clock,
    log,
  };
  const linger: Linger = { clock, ms: limits.lingerMs };
  const connections = new Connections();
  const addresses = new Places(limits.maxConnectionsPerAddress);
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

  const server = createServer({
    key: tls.current.key,
    cert: tls.current.certificate,
    ...TLS,
    ALPNProtocols: ["h2", "http/1.1"],
    handshakeTimeout: limits.headerTimeoutMs,
    insecureHTTPParser: false,
    requireHostHeader: false, // ours checks it, and answers in our words
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headerTimeoutMs,
    requestTimeout: 0, // uploads may take as long as they move
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, Math.max(50, limits.headerTimeoutMs / 4)),
    keepAlive: true, // TCP's own, for clients that vanish from a silent stream
    keepAliveInitialDelay: 60_000,
    allowHalfOpen: true, // in a tunnel each side ends by itself; before that, Node ends both
    shouldUpgradeCallback: mayUpgrade,
  });
  server.maxHeadersCount = 0; // at a limit Node drops lines without a word, framing included; we count them ourselves
  server.maxConnections = limits.maxConnections;

  server.prependListener("connection", (socket: Socket) => {
    const place = addresses.take(clientOf(socket.remoteAddress));
    if (place === undefined) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      place[Symbol.dispose]();
    });
  });
  // The handshake has chosen a protocol: HTTP/1.1 is Node's server's own, as it would be without us.
  const [serveHttp1] = server.listeners("secureConnection") as ((this: unknown, socket: TLSSocket) => void)[];
  if (serveHttp1 === undefined) throw new Error("this version of Node serves HTTP/1.1 in another way");
  server.removeAllListeners("secureConnection");
  server.on("secureConnection", (socket) => {
    const connection = connections.add(socket);
    if (socket.alpnProtocol !== "h2") serveHttp1.call(server, socket);
    else acceptHttp2(connection, limits, clock, (client) => run(socket, () => exchange(client, connection, parts)));
  });
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
  server.on("tlsClientError", (err) => log.debug({ code: errnoOf(err) }, "endpoint handshake failed"));
  tls.onRenewal((renewed) => server.setSecureContext({ ...TLS, key: renewed.key, cert: renewed.certificate }));
  const tickets = rotateTicketKeys(server, clock);

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
    tickets[Symbol.dispose]();
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
