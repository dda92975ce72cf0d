import type { Duplex, Readable, Writable } from "node:stream";
import type { HeaderLines } from "../header-lines.ts";

/** An app's answer, whatever protocol it came by. */
export interface AppAnswer {
  readonly kind: "answered";
  /** From 200 to 999. */
  readonly status: number;
  /** The app's words for its status: HTTP/1.1 has them. */
  readonly reason: string;
  readonly lines: HeaderLines;
  readonly body: Readable;
  /** Nothing comes behind the head. */
  readonly bodiless: boolean;
  /** Whether the protocol lets trailers come behind the body. */
  readonly mayTrail: boolean;
  /** Whether the body, when it has ended, is all that the app wanted to send. */
  whole(): boolean;
  /** Complete when the body has ended. */
  trailers(): HeaderLines;
}

/** The connection itself, after a 101. */
export interface AppSwitch {
  readonly kind: "switched";
  readonly lines: HeaderLines;
  readonly stream: Duplex;
  /** What the app sent in the same breath as its 101. */
  readonly first: Buffer;
}

/** A request under way to an app. Disposing of it leaves the connection to the next one, if it is fit for that. */
export interface AppSide extends Disposable {
  /** The request's body goes here. */
  readonly body: Writable;
  /** After the request's whole body. */
  endBody(trailers: HeaderLines): void;
  /** @throws Refused when the app closed, or sent what is no answer; StaleConnection */
  readonly answer: Promise<AppAnswer | AppSwitch>;
  abort(): void;
}

/** Called with each interim (1xx) answer. */
export type OnInterim = (status: number, lines: HeaderLines) => void;
