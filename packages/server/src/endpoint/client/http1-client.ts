import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Readable, Writable } from "node:stream";
import type { Clock } from "../../lib/clock.ts";
import type { AppAnswer } from "../app/app-side.ts";
import type { Connection } from "../connection.ts";
import { type HeaderLines, listOf, pairsOf, valuesOf } from "../header-lines.ts";
import type { EndpointLimits } from "../limits.ts";
import { onAbort } from "../on-abort.ts";
import { type Refusal, refusalHeaders } from "../refusal.ts";
import { linesForClient } from "../relayed-headers.ts";
import { type RequestHead, readHead } from "../request-head.ts";
import type { ClientSide } from "./client-side.ts";

const NOTHING = Buffer.alloc(0);

export interface Linger {
  readonly clock: Clock;
  readonly ms: number;
}

/** A client's request in HTTP/1.1 or 1.0. */
export class Http1Client implements ClientSide {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #connection: Connection;
  readonly #linger: Linger;

  constructor(req: IncomingMessage, res: ServerResponse, connection: Connection, linger: Linger) {
    this.#req = req;
    this.#res = res;
    this.#connection = connection;
    this.#linger = linger;
    req.on("error", () => {}); // the connection's end is what counts, and that is watched
    res.on("error", () => {});
  }

  get body(): Readable {
    return this.#req;
  }

  get gone(): AbortSignal {
    return this.#connection.gone;
  }

  get begun(): boolean {
    return this.#res.headersSent;
  }

  readHead(limits: Pick<EndpointLimits, "maxHeaderLines">): RequestHead {
    return readHead(this.#req, limits);
  }

  get whole(): boolean {
    return this.#req.complete;
  }

  trailers(): HeaderLines {
    return this.#req.rawTrailers;
  }

  /** Passes on what Node can write: 100, 102, and 103 with its links. Others are for this hop, or not known to clients. */
  interim(status: number, lines: HeaderLines): void {
    const res = this.#res;
    if (this.#req.httpVersion !== "1.1" || res.headersSent || res.destroyed) return;
    if (status === 100 && this.#expectsContinue()) res.writeContinue();
    else if (status === 102) res.writeProcessing();
    else if (status === 103) {
      const link = valuesOf(lines, "link").flatMap((value) => value.split(/,\s*(?=<)/));
      try {
        if (link.length > 0) res.writeEarlyHints({ link });
      } catch {
        // a hint that is not a link is no loss
      }
    }
  }

  begin(answer: AppAnswer): Writable {
    const res = this.#res;
    const sized = valuesOf(answer.lines, "content-length").length > 0;
    const chunked = valuesOf(answer.lines, "transfer-encoding").length > 0;
    res.sendDate = false; // the app's, or none
    const lines = linesForClient(answer.lines, answer.status, answer.mayTrail && (chunked || !sized));
    // What of the body has come with the head leaves with it, in one record of TLS and one call of the system.
    const { socket } = this.#connection;
    socket.cork();
    setImmediate(() => socket.uncork());
    res.writeHead(answer.status, reasonOf(answer), lines);
    // Not flushHeaders(): that writes a head with bytes above 7f as UTF-8. Where no body may follow, end() writes it.
    res.write(NOTHING);
    return res;
  }

  end(trailers: HeaderLines): void {
    if (this.#res.chunkedEncoding && trailers.length > 0) this.#res.addTrailers(pairsOf(trailers));
    this.#res.end();
  }

  refuse(refusal: Refusal): void {
    const res = this.#res;
    if (refusal.close) this.#connection.doubtful = true;
    if (res.headersSent || res.destroyed) {
      this.cut();
      return;
    }
    res.sendDate = false;
    res.writeHead(refusal.status, STATUS_CODES[refusal.status], refusalHeaders(refusal));
    res.end(refusal.body);
    this.linger();
  }

  async answered(): Promise<void> {
    const res = this.#res;
    if (res.writableFinished || res.destroyed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    res.once("finish", resolve).once("close", resolve);
    using _ = onAbort(this.gone, () => resolve()); // an answer still in line behind others hears nothing of its socket
    await promise;
  }

  linger(): void {
    const req = this.#req;
    if (req.complete || req.destroyed) return;
    const cancel = this.#linger.clock.after(this.#linger.ms, () => this.cut());
    req.once("end", cancel).once("close", cancel);
    req.resume();
  }

  cut(): void {
    this.#connection.socket.destroy();
  }

  #expectsContinue(): boolean {
    return listOf(this.#req.rawHeaders, "expect").some((value) => value.toLowerCase() === "100-continue");
  }
}

/** The refusal as text, for connections that have no request of Node's. */
export function rawRefusal(refusal: Refusal): string {
  const lines = refusalHeaders(refusal);
  let head = `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n`;
  for (let i = 0; i < lines.length; i += 2) head += `${lines[i]}: ${lines[i + 1]}\r\n`;
  return `${head}\r\n${refusal.body}`;
}

/** The app's words for its status, without control characters; Node refuses to write those. */
const reasonOf = ({ reason }: AppAnswer): string => reason.replace(/[^\t\x20-\x7e\x80-\xff]/g, "");
