import type { Socket } from "node:net";
import type { Sample } from "./figure.ts";

/** What came of a load. */
export interface Load {
  /** Answers a second, in each part of the window. */
  readonly rates: readonly Sample[];
  /** Milliseconds from the request's last byte to the answer's last. */
  readonly latencies: readonly Sample[];
}

export interface LoadOptions {
  /** A connection to what is measured, TLS where it speaks that. */
  readonly open: () => Socket;
  /** A new connection for each request: its time then begins before the connection's. */
  readonly fresh?: boolean;
  readonly connections: number;
  readonly seconds: number;
  /** The next request's bytes; undefined ends the load before its time. */
  readonly next: () => Buffer | undefined;
  readonly signal: AbortSignal;
}

/** A rate is counted in each of these parts of the window. */
const PARTS = 6;

/**
 * Keeps so many connections busy, each with one request at a time. The requests are bytes that were made before, and
 * answers are looked at no further than is needed, so that one core is enough to keep a server's core busy.
 * @throws Error when an answer is not a success
 */
export async function load({ open, fresh, connections, seconds, next, signal }: LoadOptions): Promise<Load> {
  const latencies: Sample[] = [];
  const finished: number[] = [];
  const begin = performance.now();
  const worker = async (): Promise<void> => {
    let connection = fresh ? undefined : new Connection(open());
    try {
      for (let bytes = next(); bytes; bytes = next()) {
        signal.throwIfAborted();
        const start = performance.now();
        if (fresh) {
          connection?.close();
          connection = new Connection(open());
        }
        await connection?.ask(bytes);
        const end = performance.now();
        if (end - begin > seconds * 1000) return;
        finished.push(end - begin);
        latencies.push({ value: end - start });
      }
    } finally {
      connection?.close();
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  // Requests that ran out have made the window shorter.
  const partMs = Math.min(seconds * 1000, finished.at(-1) ?? 0) / PARTS;
  const rates = Array.from({ length: PARTS }, (_, part) => ({
    value: finished.filter((at) => Math.min(PARTS - 1, Math.floor(at / partMs)) === part).length / (partMs / 1000),
  }));
  return { rates, latencies };
}

class Connection {
  readonly #socket: Socket;
  #text = "";
  #answered: PromiseWithResolvers<void> | undefined;

  constructor(socket: Socket) {
    this.#socket = socket.setNoDelay(true);
    this.#socket.setEncoding("latin1").on("data", (text: string) => {
      this.#text += text;
      this.#look();
    });
    const lost = (): void =>
      this.#answered?.reject(new Error(`the connection ended after ${this.#text.slice(0, 500)}`));
    this.#socket.on("error", lost).on("close", lost);
  }

  /** Resolves with the whole of a successful answer. */
  async ask(bytes: Buffer): Promise<void> {
    this.#text = "";
    this.#answered = Promise.withResolvers();
    this.#socket.write(bytes);
    await this.#answered.promise;
  }

  close(): void {
    this.#answered = undefined;
    this.#socket.destroy();
  }

  #look(): void {
    const head = this.#text.indexOf("\r\n\r\n");
    if (head < 0) return;
    const length = Number(/^content-length: (\d+)\r$/im.exec(this.#text.slice(0, head + 1))?.[1] ?? 0);
    if (this.#text.length < head + 4 + length) return;
    if (/^HTTP\/1\.1 20\d /.test(this.#text)) this.#answered?.resolve();
    else this.#answered?.reject(new Error(`the server answered ${this.#text.slice(0, 1000)}`));
  }
}
