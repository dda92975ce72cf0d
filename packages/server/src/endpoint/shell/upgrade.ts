import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type ServerOptions, type WebSocket, WebSocketServer } from "ws";
import { PLATFORM_PROTOCOL } from "../credentials.ts";
import { type HeaderLines, listOf, valuesOf } from "../header-lines.ts";
import { APP_CONNECT_FAILED, Refused } from "../refusal.ts";

/** Longest message of a client, whole: what is pasted into a terminal comes as one. */
export const MAX_MESSAGE = 1024 * 1024;

const KEY = /^[A-Za-z0-9+/]{22}==$/;

const options: ServerOptions & { maxPendingAutoPongs: number } = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false, // a small message stays small
  maxPayload: MAX_MESSAGE,
  maxPendingAutoPongs: 8, // of a client that pings and does not read
  // A browser that offers some must be answered with one of them.
  handleProtocols: (offered) => (offered.has(PLATFORM_PROTOCOL) ? PLATFORM_PROTOCOL : false),
};
const server = new WebSocketServer(options);

/**
 * The WebSocket of a request that has been admitted; it reads the socket from now on.
 * @throws Refused when it is no WebSocket's handshake after all
 */
export function acceptWebSocket(req: IncomingMessage, socket: Duplex, first: Buffer): WebSocket {
  let opened: WebSocket | undefined;
  server.handleUpgrade(req, socket, first, (webSocket) => {
    opened = webSocket;
  });
  if (opened === undefined) throw new Refused(APP_CONNECT_FAILED, "not a WebSocket's handshake");
  return opened;
}

/** Whether a request asks for a WebSocket: to be known before a microvm is woken for it. */
export function asksForWebSocket(method: string, lines: HeaderLines): boolean {
  return (
    method === "GET" &&
    listOf(lines, "upgrade").join().toLowerCase() === "websocket" &&
    valuesOf(lines, "sec-websocket-version").join() === "13" &&
    KEY.test(valuesOf(lines, "sec-websocket-key").join())
  );
}
