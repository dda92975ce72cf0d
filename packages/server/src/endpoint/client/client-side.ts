import type { Readable, Writable } from "node:stream";
import type { AppAnswer } from "../app/app-side.ts";
import type { HeaderLines } from "../header-lines.ts";
import type { EndpointLimits } from "../limits.ts";
import type { Refusal } from "../refusal.ts";
import type { RequestHead } from "../request-head.ts";

/** A client's request and the way back to the client, whatever protocol it speaks. One for each request. */
export interface ClientSide {
  /** @throws Refused */
  readHead(limits: Pick<EndpointLimits, "maxHeaderBytes" | "maxHeaderLines">): RequestHead;
  readonly body: Readable;
  /** Whether the body, when it has ended, is all that the client wanted to send. */
  readonly whole: boolean;
  /** What came behind the body; complete when the body has ended. */
  trailers(): HeaderLines;
  /** Aborted when nobody waits for the answer any more. */
  readonly gone: AbortSignal;
  /** Whether the client has had the head of an answer, so that it cannot be told anything else. */
  readonly begun: boolean;
  /** Passes on an interim (1xx) answer, as far as the client's protocol has a form for it. */
  interim(status: number, lines: HeaderLines): void;
  /**
   * Sends the head of the app's answer, so that its first byte need not wait for its body.
   * @throws Refused when it has no form in the client's protocol
   */
  begin(answer: AppAnswer): Writable;
  /** After the answer's whole body. */
  end(trailers: HeaderLines): void;
  /** An answer in place of the app's; in the middle of the app's, the cut that says that it is not whole. */
  refuse(refusal: Refusal): void;
  /** Resolves when the answer is with the operating system, or the client is gone. */
  answered(): Promise<void>;
  /** What is still to come of the request is nobody's: it is read for a short time, so that the answer is not lost. */
  linger(): void;
  /** Breaks off. */
  cut(): void;
}
