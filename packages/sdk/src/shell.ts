import type { IncomingMessage } from "node:http";
import { rootCertificates } from "node:tls";
import type { ClientOptions, RawData, WebSocket } from "ws";
import { UnreachableError } from "./api-error.ts";
import { lookupOf } from "./loopback.ts";
import { parseServerText, ShellError } from "./shell-messages.ts";

export interface ShellOptions {
  /** What to run, as it is; without, the image's shell. */
  readonly command?: readonly string[] | undefined;
  /** Default: with a terminal. Without, stdout and stderr are apart, and input can end. */
  readonly terminal?: boolean | undefined;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
  /** What the terminal is called, if the image knows it; default `xterm`. */
  readonly term?: string | undefined;
  /** PEM of an authority to trust besides the public ones. */
  readonly ca?: string | undefined;
  /** Port of the microvms' HTTPS endpoint, when an endpoint's name says none; default 443. */
  readonly endpointPort?: number | undefined;
}

export type ShellEvent =
  | { readonly kind: "output"; readonly stream: "stdout" | "stderr"; readonly bytes: Uint8Array }
  | { readonly kind: "exit"; readonly code: number };

/** Where to, and the token that opens it. */
export interface ShellDoor {
  readonly url: URL;
  readonly token: string;
}

/** Longest message that a server of ours sends: 256 KiB, and some. */
const MAX_MESSAGE = 1024 * 1024;
const INPUT_BYTES = 64 * 1024;

/**
 * A shell in a microvm. Disposing of it hangs up all that is in its session.
 * @throws ShellError the endpoint refused; UnreachableError; the signal's reason
 */
export async function openShell(door: ShellDoor, options: ShellOptions, signal: AbortSignal): Promise<ShellSession> {
  const { WebSocket: Socket } = await import("ws"); // most who use this package never need it
  signal.throwIfAborted();
  const lookup = lookupOf(door.url.hostname);
  const settings: ClientOptions = {
    headers: { "X-aws-proxy-auth": door.token },
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE,
    followRedirects: false,
    ...(options.ca !== undefined && { ca: [...rootCertificates, options.ca] }),
    ...(lookup && { lookup }),
  };
  const socket = new Socket(door.url, settings);
  const abort = (): void => socket.terminate();
  signal.addEventListener("abort", abort, { once: true });
  try {
    await opened(socket, door.url);
  } catch (err) {
    signal.throwIfAborted();
    throw err;
  } finally {
    signal.removeEventListener("abort", abort);
  }
  return new ShellSession(socket, options, signal);
}

function opened(socket: WebSocket, url: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.on("error", (err) => reject(new UnreachableError(url.origin, err)));
    socket.once("unexpected-response", (request, response: IncomingMessage) => {
      const { statusCode = 0, headers } = response;
      const reason = String(headers["x-aws-proxy-error"] ?? "");
      reject(new ShellError("refused", `the endpoint answered ${statusCode}${reason && ` (${reason})`}`));
      response.resume();
      request.destroy();
    });
    socket.once("open", resolve);
  });
}

export class ShellSession implements Disposable {
  readonly #socket: WebSocket;
  readonly #signal: AbortSignal;
  readonly #terminal: boolean;
  readonly #events: (ShellEvent | Error)[] = [];
  #over = false;
  #wake = (): void => {};
  readonly #abort = (): void => this.#socket.terminate();

  constructor(socket: WebSocket, options: ShellOptions, signal: AbortSignal) {
    const { command = [], terminal = true, columns = 0, rows = 0, term = "xterm" } = options;
    this.#socket = socket;
    this.#signal = signal;
    this.#terminal = terminal;
    socket.on("message", (data: RawData, binary: boolean) => this.#receive(data as Buffer, binary));
    socket.once("close", (code, reason) => this.#add(closed(code, reason.toString("utf8"))));
    signal.addEventListener("abort", this.#abort, { once: true });
    // A name that no terminal has would have the whole session refused.
    const known = /^[\w.+-]{1,64}$/.test(term) ? term : "xterm";
    const torpor = { command, terminal, cols: columns, rows, term: known };
    socket.send(JSON.stringify({ type: "session_init", session_id: crypto.randomUUID(), torpor }));
  }

  /**
   * What it writes, as it comes and no faster than it is asked for; its exit is the last. Can be asked for once.
   * @throws ShellError when it could not be opened, or was ended from elsewhere; the signal's reason
   */
  async *events(): AsyncGenerator<ShellEvent, void> {
    for (;;) {
      const event = this.#events.shift();
      if (event instanceof Error) {
        this.#signal.throwIfAborted();
        throw event;
      }
      if (event) {
        yield event;
        if (event.kind === "exit") return;
        continue;
      }
      const more = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#socket.resume();
      await more;
    }
  }

  /** Resolves when there is room for more. Whoever types to a shell that has ended types to nobody. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += INPUT_BYTES) await this.#send(bytes.subarray(at, at + INPUT_BYTES), true);
  }

  /** The end of its input, or Ctrl-D on a terminal. */
  async endInput(): Promise<void> {
    await this.#send('{"type":"eof"}', false);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#send(JSON.stringify({ type: "resize", cols: columns, rows }), false);
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#abort);
    this.#socket.terminate();
  }

  #send(data: Uint8Array | string, binary: boolean): Promise<void> {
    return new Promise((resolve) => this.#socket.send(data, { binary }, () => resolve()));
  }

  #receive(data: Buffer, binary: boolean): void {
    if (binary) {
      const stream = !this.#terminal && data[0] === 2 ? "stderr" : "stdout";
      const bytes = this.#terminal ? data : data.subarray(1);
      if (bytes.length > 0) this.#add({ kind: "output", stream, bytes });
    } else {
      const said = parseServerText(data.toString("utf8"));
      if (said) this.#add(said);
    }
  }

  #add(event: ShellEvent | Error): void {
    if (this.#over) return;
    this.#over = event instanceof Error || event.kind === "exit";
    this.#events.push(event);
    if (!this.#over) this.#socket.pause();
    this.#wake();
  }
}

function closed(code: number, reason: string): ShellError {
  if (code === 1001) return new ShellError("stopped", reason || "the microvm has stopped running");
  if (reason === "") return new ShellError("broken", `the connection broke (${code})`);
  return new ShellError("broken", reason);
}
