import type { RawData, WebSocket } from "ws";

export interface Message {
  readonly data: Buffer;
  readonly binary: boolean;
}

/** The messages of a WebSocket one by one, and no faster than they are asked for. */
export class MessageQueue {
  readonly #socket: WebSocket;
  readonly #messages: Message[] = [];
  #wake: (() => void) | undefined;
  #closed = false;
  #unwanted = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data: RawData, binary: boolean) => {
      if (this.#unwanted) return;
      // As `nodebuffer`, which is the default, each is one.
      this.#messages.push({ data: data as Buffer, binary });
      socket.pause();
      this.#wake?.();
    });
    socket.once("close", () => {
      this.#closed = true;
      this.#wake?.();
    });
  }

  /** No more of them: they are read and dropped, up to the client's close behind them. */
  drop(): void {
    this.#unwanted = true;
    this.#messages.length = 0;
    this.#socket.resume();
    this.#wake?.();
  }

  /** Undefined when there will be none any more. */
  async next(): Promise<Message | undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message) return message;
      if (this.#closed || this.#unwanted) return undefined;
      const more = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#socket.resume();
      await more;
    }
  }
}
