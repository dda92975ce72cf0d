import { constants, type ServerHttp2Stream } from "node:http2";
import type { Readable, Writable } from "node:stream";
import type { AppAnswer } from "../app/app-side.ts";
import { GONE } from "../connection.ts";
import { groupsOf, type HeaderLines, listOf } from "../header-lines.ts";
import type { EndpointLimits } from "../limits.ts";
import { CutError } from "../pump.ts";
import { APP_CONNECT_FAILED, type Refusal, Refused, refusalHeaders } from "../refusal.ts";
import { linesForClient, linesForHttp2 } from "../relayed-headers.ts";
import type { RequestHead } from "../request-head.ts";
import type { ClientSide } from "./client-side.ts";
import { readHttp2Head } from "./http2-head.ts";

const { NGHTTP2_NO_ERROR } = constants;

/** A client's request in HTTP/2: a stream of its connection. */
export class Http2Client implements ClientSide {
  readonly #stream: ServerHttp2Stream;
  readonly #lines: HeaderLines;
  readonly #ended: boolean;
  readonly #gone = new AbortController();
  /** All of the answer has been handed to Node. */
  #said = false;
  #received: HeaderLines = [];
  #toSend: HeaderLines = [];

  /** @param ended the request's head was all of it */
  constructor(stream: ServerHttp2Stream, lines: HeaderLines, ended: boolean) {
    this.#stream = stream;
    this.#lines = lines;
    this.#ended = ended;
    stream.on("error", () => {}); // its end is watched
    stream.on("trailers", (_headers: unknown, _flags: unknown, raw?: HeaderLines) => {
      this.#received = raw ?? [];
    });
    stream.once("aborted", () => this.#gone.abort(GONE));
    stream.once("close", () => {
      const whole = this.#said && stream.writableFinished && stream.rstCode === NGHTTP2_NO_ERROR;
      if (!whole) this.#gone.abort(GONE);
    });
    stream.once("wantTrailers", () => this.#sendTrailers());
    if (ended) stream.resume();
  }

  get body(): Readable {
    return this.#stream;
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get begun(): boolean {
    return this.#stream.headersSent;
  }

  readHead(limits: Pick<EndpointLimits, "maxHeaderBytes" | "maxHeaderLines">): RequestHead {
    return readHttp2Head(this.#lines, this.#ended, limits);
  }

  /** After a reset Node ends the body as if it were whole. */
  get whole(): boolean {
    return !this.#stream.aborted && (this.#stream.rstCode ?? NGHTTP2_NO_ERROR) === NGHTTP2_NO_ERROR;
  }

  trailers(): HeaderLines {
    return this.#received;
  }

  interim(status: number, lines: HeaderLines): void {
    const stream = this.#stream;
    if (stream.headersSent || stream.destroyed || stream.closed) return;
    if (status === 100 && !listOf(this.#lines, "expect").some((value) => value.toLowerCase() === "100-continue"))
      return;
    try {
      stream.additionalHeaders({ ...groupsOf(linesForHttp2(linesForClient(lines, status, false))), ":status": status });
    } catch {
      // what has no form in HTTP/2 is not for this client
    }
  }

  begin(answer: AppAnswer): Writable {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return stream; // it is gone, which is about to be noticed
    const lines = linesForHttp2(linesForClient(answer.lines, answer.status, answer.mayTrail));
    const options = {
      sendDate: false,
      endStream: answer.bodiless,
      waitForTrailers: answer.mayTrail && !answer.bodiless,
    };
    try {
      stream.respond([":status", String(answer.status), ...lines], options);
    } catch (err) {
      throw new Refused(APP_CONNECT_FAILED, "the app's answer has no form in HTTP/2", { cause: err });
    }
    return stream;
  }

  end(trailers: HeaderLines): void {
    this.#toSend = trailers;
    this.#said = true;
    this.#stream.end();
  }

  refuse(refusal: Refusal): void {
    const stream = this.#stream;
    if (stream.headersSent || stream.destroyed || stream.closed) {
      this.cut();
      return;
    }
    const lines = linesForHttp2(refusalHeaders({ ...refusal, close: undefined }));
    const options = { sendDate: false, endStream: refusal.body === "" };
    stream.respond([":status", String(refusal.status), ...lines], options);
    this.#said = true;
    if (refusal.body !== "") stream.end(refusal.body);
    if (stream.writableFinished) this.linger();
    else stream.once("finish", () => this.linger());
  }

  async answered(): Promise<void> {
    const stream = this.#stream;
    if (stream.writableFinished || stream.destroyed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    stream.once("finish", resolve).once("close", resolve);
    await promise;
  }

  /** A reset without an error: what it says is that nobody reads the rest. Source: RFC 9113 §8.1. */
  linger(): void {
    const stream = this.#stream;
    if (!stream.destroyed && !stream.closed && !stream.readableEnded) stream.close(NGHTTP2_NO_ERROR);
  }

  /** Not `close` with a code: Node would end the stream first, as if it were whole. */
  cut(): void {
    this.#stream.destroy(new CutError("cut"));
  }

  #sendTrailers(): void {
    try {
      this.#stream.sendTrailers(groupsOf(linesForHttp2(this.#toSend)));
    } catch {
      this.cut(); // without its trailers the answer is not whole
    }
  }
}
