import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { toWireError, type WireError } from "./wire-errors.ts";

/** The header lines of an error's answer, without its body's length. */
export function errorHeaders(error: WireError, requestId: string): Record<string, string> {
  return {
    "content-type": "application/json",
    "x-amzn-requestid": requestId,
    "x-amzn-errortype": error.type,
    ...(error.retryAfterSeconds === undefined ? {} : { "retry-after": String(Math.ceil(error.retryAfterSeconds)) }),
  };
}

/** Answers before any router has seen the request, and ends the connection. */
export function refuse(response: ServerResponse, reason: Error, requestId: string): void {
  const error = toWireError(reason);
  response.writeHead(error.status, { ...errorHeaders(error, requestId), connection: "close" });
  response.end(JSON.stringify(error.body));
}

/** As `refuse`, where there is no response object since the request could not be parsed. */
export function refuseSocket(socket: Duplex, reason: Error, requestId: string): void {
  const error = toWireError(reason);
  const body = JSON.stringify(error.body);
  const headers = { ...errorHeaders(error, requestId), "content-length": Buffer.byteLength(body), connection: "close" };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${lines.join("")}\r\n${body}`, () =>
    socket.destroy(),
  );
}
