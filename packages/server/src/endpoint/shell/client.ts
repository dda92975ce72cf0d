import { WebSocket } from "ws";
import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import { MessageQueue } from "./message-queue.ts";
import { closeReason } from "./messages.ts";

/** Codes of RFC 6455 §7.4.1. */
export const CLOSE = { normal: 1000, goingAway: 1001, protocolError: 1002, failed: 1011 } as const;
/** A client that went away unnoticed is noticed by what is sent to it, also while nothing is read. */
const PING_EVERY_MS = 15_000;

export interface ClientParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: { readonly lingerMs: number };
}

/** The WebSocket of a shell's user. */
export class ShellClient implements Disposable {
  readonly messages: MessageQueue;
  readonly closed: Promise<void>;
  readonly #socket: WebSocket;
  readonly #parts: ClientParts;
  readonly #gone = new AbortController();
  #cancelPing = (): void => {};
  #cancelCut = (): void => {};

  constructor(socket: WebSocket, parts: ClientParts) {
    this.#socket = socket;
    this.#parts = parts;
    socket.on("error", (err) => parts.log.debug({ reason: err.message }, "shell connection broken"));
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#gone.abort();
        resolve();
      });
    });
    this.messages = new MessageQueue(socket);
    this.#pingLater();
  }

  /** Aborted when it is closed. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** False when it is closed, or on the way to be. */
  get open(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Resolves when it is with the operating system: a client that does not read is waited for. @throws Error */
  send(data: Buffer | string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(data, { binary: typeof data !== "string" }, (err) => (err ? reject(err) : resolve()));
    });
  }

  /** The first reason counts. A client that does not close in its turn is cut off. */
  end(code: number, reason: string): void {
    if (!this.open) return;
    this.#socket.close(code, closeReason(reason));
    this.messages.drop(); // its own close is behind them
    const { clock, limits } = this.#parts;
    this.#cancelCut = clock.after(limits.lingerMs, () => this.#socket.terminate());
  }

  #pingLater(): void {
    this.#cancelPing = this.#parts.clock.after(PING_EVERY_MS, () => {
      // What a client does not read piles up nowhere.
      if (this.open && this.#socket.bufferedAmount === 0) this.#socket.ping();
      this.#pingLater();
    });
  }

  [Symbol.dispose](): void {
    this.#cancelPing();
    this.#cancelCut();
    if (this.#socket.readyState !== WebSocket.CLOSED) this.#socket.terminate();
  }
}
