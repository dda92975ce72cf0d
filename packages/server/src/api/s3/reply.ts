import { randomBytes } from "node:crypto";
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Clock } from "../../lib/clock.ts";
import { type S3Error, toS3Error } from "./s3-error.ts";
import { element, type Markup, XML_DECLARATION } from "./wire/xml-write.ts";

/** How long a client may wait for the first byte of a slow answer, and between two. */
const KEEP_ALIVE_MS = 10_000;
/** A client that takes nothing of a stream for so long is cut off. */
const STREAM_IDLE_MS = 60_000;
/** What is read and thrown away of a refused body, so that a client that sends first and reads later gets its answer. */
const MAX_DISCARDED_BYTES = 16 * 2 ** 20;
const MAX_DISCARD_MS = 5_000;
/** As proxies log it; nobody gets it. */
const CLIENT_GONE_STATUS = 499;

/** Told what the answer will be; when it rejects, that is what is answered. */
export type BeforeAnswer = (status: number, errorCode: string | null) => Promise<void>;

/** The answer to one request; every form of it carries the request's id. */
export class Reply {
  readonly requestId = randomBytes(8).toString("hex").toUpperCase();
  readonly #hostId = randomBytes(42).toString("base64");
  readonly #incoming: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #clock: Clock;
  /** The client waits for `100 Continue` before it sends the body. */
  #holdsBody: boolean;
  /** whenDone has begun the answer with a head and spaces. */
  #begun = false;
  #before: BeforeAnswer | undefined;
  #answered: Promise<void> | undefined;

  constructor(incoming: IncomingMessage, response: ServerResponse, clock: Clock, holdsBody: boolean) {
    this.#holdsBody = holdsBody;
    this.#incoming = incoming;
    this.#response = response;
    this.#clock = clock;
    response.setHeader("x-amz-request-id", this.requestId);
    response.setHeader("x-amz-id-2", this.#hostId);
  }

  /** Call before the body is read: a client that waits with it is told to go on. */
  wantBody(): void {
    if (this.#holdsBody) this.#response.writeContinue();
    this.#holdsBody = false;
  }

  /** The answer, whatever it is, waits for this. */
  holdBack(before: BeforeAnswer): void {
    this.#before = before;
  }

  /** Resolves when what held the answer back, if anything did, is over and the answer is on its way. */
  async settled(): Promise<void> {
    await this.#answered;
  }

  /** There is nobody to answer any more. */
  async abandon(): Promise<void> {
    const before = this.#before;
    this.#before = undefined;
    await before?.(CLIENT_GONE_STATUS, "ClientGone");
  }

  empty(status: number, headers: OutgoingHttpHeaders = {}): void {
    this.#answer(status, null, () => this.#response.writeHead(status, headers).end());
  }

  xml(status: number, markup: Markup, headers: OutgoingHttpHeaders = {}): void {
    this.#answer(status, null, () => this.#writeXml(status, markup, headers));
  }

  #writeXml(status: number, markup: Markup, headers: OutgoingHttpHeaders = {}): void {
    const body = Buffer.from(XML_DECLARATION + markup.text);
    this.#response
      .writeHead(status, { "Content-Type": "application/xml", "Content-Length": body.length, ...headers })
      .end(body);
  }

  #answer(status: number, errorCode: string | null, write: () => void): void {
    const before = this.#before;
    this.#before = undefined;
    if (!before) {
      write();
      return;
    }
    this.#answered = before(status, errorCode)
      .then(write)
      .catch((err: unknown) => this.error(toS3Error(err), ""));
  }

  /** Sends the stream as fast as the client reads; a client that goes away ends it, and that is no error of ours. */
  async stream(status: number, headers: OutgoingHttpHeaders, body: Readable): Promise<void> {
    this.#response.setTimeout(STREAM_IDLE_MS);
    this.#response.writeHead(status, headers);
    await pipeline(body, this.#response);
  }

  /**
   * Answers 200 with what `work` makes. If that takes long, the head and then spaces go out meanwhile, and a failure
   * becomes an error document in the body: clients of S3 know that of CompleteMultipartUpload and CopyObject.
   */
  async whenDone(work: () => Promise<{ markup: Markup; headers?: OutgoingHttpHeaders }>): Promise<void> {
    let cancel = (): void => {};
    const keepAlive = (): void => {
      if (!this.#begun) this.#response.writeHead(200, { "Content-Type": "application/xml" });
      this.#response.write(this.#begun ? " " : XML_DECLARATION);
      this.#begun = true;
      cancel = this.#clock.after(KEEP_ALIVE_MS, keepAlive);
    };
    cancel = this.#clock.after(KEEP_ALIVE_MS, keepAlive);
    try {
      const { markup, headers } = await work();
      this.#answer(200, null, () => {
        if (this.#begun) this.#response.end(markup.text);
        else this.#writeXml(200, markup, headers);
      });
      await this.#answered;
    } finally {
      cancel();
    }
  }

  error(err: S3Error, resource: string): void {
    const document = element("Error", [
      element("Code", err.code),
      element("Message", err.message),
      ...Object.entries(err.details).map(([name, value]) => element(name, value)),
      element("Resource", resource),
      element("RequestId", this.requestId),
      element("HostId", this.#hostId),
    ]);
    this.#answer(err.status, err.code, () => this.#writeError(err, document));
  }

  #writeError(err: S3Error, document: Markup): void {
    if (this.#begun) this.#response.end(document.text);
    // A stream that broke off must not look complete.
    else if (this.#response.headersSent) this.#response.destroy();
    else {
      // Whether a client that waited sends its body after all cannot be known: the connection is of no more use.
      if (this.#holdsBody) this.#response.setHeader("Connection", "close");
      else this.#discardBody();
      if (this.#incoming.method === "HEAD") this.#response.writeHead(err.status).end();
      else this.#writeXml(err.status, document);
    }
  }

  #discardBody(): void {
    const incoming = this.#incoming;
    if (incoming.complete) return;
    let discarded = 0;
    const cancel = this.#clock.after(MAX_DISCARD_MS, () => incoming.destroy());
    incoming.once("close", cancel).once("end", cancel);
    incoming.on("error", () => {}); // the client is gone; its answer is lost anyway
    incoming.on("data", (chunk: Buffer) => {
      discarded += chunk.length;
      if (discarded > MAX_DISCARDED_BYTES) incoming.destroy();
    });
    incoming.resume();
  }
}
