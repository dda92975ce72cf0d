import { type IncomingMessage, type InformationEvent, type ServerResponse, STATUS_CODES } from "node:http";
import type { Clock } from "../lib/clock.ts";
import { listOf, valuesOf } from "./header-lines.ts";
import { onAbort } from "./on-abort.ts";
import { type Refusal, refusalHeaders } from "./refusal.ts";
import { linesForClient } from "./relayed-headers.ts";

/** Answers for the app. The request's body is read to its end, for a short time, so that the answer is not lost. */
export function refuse(req: IncomingMessage, res: ServerResponse, refusal: Refusal, linger: Linger): void {
  if (res.headersSent || res.destroyed) {
    req.socket.destroy(); // in the middle of the app's answer only a cut says that it is not whole
    return;
  }
  res.sendDate = false;
  res.writeHead(refusal.status, STATUS_CODES[refusal.status], refusalHeaders(refusal));
  res.end(refusal.body);
  lingerOver(req, linger);
}

/** The refusal as text, for connections that have no request of Node's. */
export function rawRefusal(refusal: Refusal): string {
  const lines = refusalHeaders(refusal);
  let head = `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n`;
  for (let i = 0; i < lines.length; i += 2) head += `${lines[i]}: ${lines[i + 1]}\r\n`;
  return `${head}\r\n${refusal.body}`;
}

/** Starts the app's answer, so that its first byte need not wait for its body. */
export function beginAnswer(res: ServerResponse, message: IncomingMessage): void {
  const status = message.statusCode ?? 502;
  res.sendDate = false; // the app's, or none
  res.writeHead(status, reasonOf(message), linesForClient(message.rawHeaders, status));
  // Not flushHeaders(): that writes a head with bytes above 7f as UTF-8. Where no body may follow, end() writes it.
  res.write(NOTHING);
}

const NOTHING = Buffer.alloc(0);

/** Passes on what Node can write: 100, 102, and 103 with its links. Others are for this hop, or not known to clients. */
export function relayInterim(req: IncomingMessage, res: ServerResponse, info: InformationEvent): void {
  if (req.httpVersion !== "1.1" || res.headersSent) return;
  if (info.statusCode === 100 && expectsContinue(req)) res.writeContinue();
  else if (info.statusCode === 102) res.writeProcessing();
  else if (info.statusCode === 103) {
    const link = valuesOf(info.rawHeaders, "link").flatMap((value) => value.split(/,\s*(?=<)/));
    try {
      if (link.length > 0) res.writeEarlyHints({ link });
    } catch {
      // a hint that is not a link is no loss
    }
  }
}

export interface Linger {
  readonly clock: Clock;
  readonly ms: number;
}

/** Reads on to the end of a request that has had its answer; cuts it off if that takes too long. */
export function lingerOver(req: IncomingMessage, linger: Linger): void {
  if (req.complete || req.destroyed) return;
  const cancel = linger.clock.after(linger.ms, () => req.socket.destroy());
  req.once("end", cancel).once("close", cancel);
  req.resume();
}

/** Resolves when the answer is with the operating system, or the client is gone. */
export async function answered(res: ServerResponse, gone: AbortSignal): Promise<void> {
  if (res.writableFinished || res.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  res.once("finish", resolve).once("close", resolve);
  using _ = onAbort(gone, () => resolve()); // an answer still in line behind others hears nothing of its socket
  await promise;
}

const expectsContinue = (req: IncomingMessage): boolean =>
  listOf(req.rawHeaders, "expect").some((value) => value.toLowerCase() === "100-continue");

/** The app's words for its status, without control characters; Node refuses to write those. */
function reasonOf(message: IncomingMessage): string {
  return (message.statusMessage ?? "").replace(/[^\t\x20-\x7e\x80-\xff]/g, "");
}
