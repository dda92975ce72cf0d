import { connect, type Socket } from "node:net";
import { ANSWER, encodeFrame, FAILURE, type Frame, FrameDecoder } from "./frames.ts";

export const AGENT_PORT = 4699;
/** Of the guest's metadata service, which hears only what the slot turns round to it. */
export const METADATA_PORT = 4698;
/** A SYN that the guest is not there to see is repeated after a second only: better to begin anew. */
const ATTEMPT_MS = 250;
const RETRY_MS = 10;

/** The agent understood and could not: `code` as docs/agent-protocol.md has it. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Connects as soon as the guest answers. Ends with the signal's reason. */
export async function dialAgent(address: string, signal: AbortSignal): Promise<Socket> {
  for (;;) {
    signal.throwIfAborted();
    const socket = await attempt(address, signal);
    if (socket) return socket;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function attempt(address: string, signal: AbortSignal): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: AGENT_PORT, noDelay: true });
    const done = (result: Socket | undefined): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", fail);
      socket.removeAllListeners();
      // Until the next owner listens for errors, none may become an uncaught exception.
      socket.on("error", () => {});
      if (!result) socket.destroy();
      resolve(result);
    };
    const fail = (): void => done(undefined);
    const timer = setTimeout(fail, ATTEMPT_MS);
    socket.once("connect", () => done(socket));
    socket.once("error", fail);
    signal.addEventListener("abort", fail, { once: true });
  });
}

/** Requests one after another over one connection. The guest is hostile: answers are bounded and typed. */
export class AgentConnection implements Disposable {
  readonly #socket: Socket;
  readonly #decoder = new FrameDecoder();
  #wake: (() => void) | undefined;
  #ended: Error | undefined;
  #resting = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("readable", this.#readable);
    socket.on("error", (err) => {
      this.#ended ??= err;
    });
    socket.once("close", () => {
      this.#ended ??= new Error("the guest's agent closed the connection");
      this.#wake?.();
    });
  }

  static async open(address: string, signal: AbortSignal): Promise<AgentConnection> {
    return new AgentConnection(await dialAgent(address, signal));
  }

  /** It can be asked nothing more. */
  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** Kept without a question that is open: its end is noticed, it keeps no process alive, and whoever speaks unasked is cut off. */
  rest(): void {
    this.#resting = true;
    this.#socket.unref();
    this.#whileResting();
  }

  /** @throws AgentError when the agent says no; Error when it says nothing sensible in time */
  async request(type: number, payload: Uint8Array | object | undefined, signal: AbortSignal): Promise<Buffer> {
    if (this.#ended) throw this.#ended;
    this.#resting = false;
    this.#socket.ref();
    const bytes = payload instanceof Uint8Array ? payload : Buffer.from(payload ? JSON.stringify(payload) : "");
    this.send(encodeFrame(type, bytes));
    const frame = await this.next(signal);
    if (frame.type === FAILURE) throw failure(frame.payload);
    if (frame.type !== (type | ANSWER)) throw this.#broken(`answered request ${type} with frame type ${frame.type}`);
    return frame.payload;
  }

  send(frame: Buffer): void {
    this.#socket.write(frame);
  }

  /** Resolves when it has room for more. @throws Error when it has ended */
  async drained(): Promise<void> {
    if (!this.#ended && this.#socket.writableNeedDrain)
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.#socket.off("drain", done).off("close", done);
          resolve();
        };
        this.#socket.on("drain", done).on("close", done);
      });
    if (this.#ended) throw this.#ended;
  }

  /** Ends it at once, whatever is still to be sent: an end would wait for its turn behind that. */
  cut(): void {
    this.#ended ??= new Error("the connection to the guest's agent is closed");
    this.#socket.resetAndDestroy();
  }

  /** The next frame, whatever it is. */
  async next(signal: AbortSignal): Promise<Frame> {
    for (;;) {
      const frame = this.#decode();
      if (frame) return frame;
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk) {
        this.#decoder.add(chunk);
        continue;
      }
      if (this.#ended) throw this.#ended;
      signal.throwIfAborted();
      await this.#activity(signal);
    }
  }

  /** Hands the socket over, with what was read beyond the last frame put back. */
  release(): Socket {
    // Read by `readable` and not by `data`: when that listener goes, the stream is as if nobody had read it, and flows
    // for its next owner as a new one would.
    this.#socket.off("readable", this.#readable);
    const rest = this.#decoder.rest();
    if (rest.length > 0) this.#socket.unshift(rest);
    return this.#socket;
  }

  [Symbol.dispose](): void {
    this.#ended ??= new Error("the connection to the guest's agent is closed");
    this.#socket.destroy();
  }

  readonly #readable = (): void => {
    if (this.#resting) this.#whileResting();
    else this.#wake?.();
  };

  #whileResting(): void {
    if (this.#socket.readableLength > 0 || this.#decoder.rest().length > 0) this.#broken("spoke unasked");
    else this.#socket.read(0); // lets an end come through
  }

  #decode(): Frame | undefined {
    try {
      return this.#decoder.next();
    } catch (err) {
      this.#ended = err as Error;
      this.#socket.destroy();
      throw err;
    }
  }

  #activity(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wake = undefined;
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#wake = wake;
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  #broken(what: string): Error {
    this.#ended = new Error(`the guest's agent ${what}`);
    this.#socket.destroy();
    return this.#ended;
  }
}

function failure(payload: Buffer): AgentError {
  try {
    const said = JSON.parse(payload.toString("utf8")) as { error?: unknown; code?: unknown } | null;
    return new AgentError(String(said?.code ?? "unknown").slice(0, 64), String(said?.error ?? "").slice(0, 4096));
  } catch {
    return new AgentError("unknown", "the guest's agent failed and its reason is not JSON");
  }
}
