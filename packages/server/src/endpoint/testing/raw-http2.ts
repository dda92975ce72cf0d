import { once } from "node:events";
import { connect as netConnect } from "node:net";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { type Bench, hostOf } from "./bench.ts";
import type { StubMicrovm } from "./stub-gate.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
export const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, continuation: 9 } as const;
export const END_STREAM = 1;
export const END_HEADERS = 4;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Header lines as literals that nothing is remembered of, whatever is in them. Source: RFC 7541 §6.2.2. */
export function literals(lines: readonly (readonly [string, string])[]): Buffer {
  const parts = lines.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]);
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const length = [];
  if (bytes.length < 127) length.push(bytes.length);
  else {
    length.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** An HTTP/2 connection that sends what a library would not. */
export class RawHttp2 implements Disposable {
  readonly socket: TLSSocket;
  readonly frames: Frame[] = [];
  #rest = Buffer.alloc(0);

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on("error", () => {}).on("data", (chunk: Buffer) => this.#take(chunk));
  }

  /** @param greet sends the preface and empty SETTINGS */
  static async connect(bench: Bench, microvm: StubMicrovm, greet = true): Promise<RawHttp2> {
    const socket = tlsConnect({
      socket: netConnect({ port: bench.server.address.port, host: "127.0.0.1" }),
      servername: hostOf(microvm),
      ca: bench.ca,
      ALPNProtocols: ["h2"],
    });
    socket.on("error", () => {});
    await once(socket, "secureConnect");
    const raw = new RawHttp2(socket);
    if (greet) raw.send(Buffer.from(PREFACE), frame(FRAME.settings, 0, 0));
    return raw;
  }

  send(...frames: readonly Buffer[]): boolean {
    return !this.socket.destroyed && this.socket.write(Buffer.concat(frames));
  }

  /** Resolves with the first frame that fits, or undefined when the connection ends without one. */
  async until(fits: (frame: Frame) => boolean): Promise<Frame | undefined> {
    for (;;) {
      const found = this.frames.find(fits);
      if (found !== undefined || this.socket.closed) return found;
      await Promise.race([once(this.socket, "data"), new Promise((resolve) => this.socket.once("close", resolve))]);
    }
  }

  /** How a stream ended: the status, as far as HPACK has it in its table, or the code of a reset. */
  async outcome(stream: number): Promise<string> {
    const ended = ({ type, stream: of }: Frame): boolean =>
      (of === stream && (type === FRAME.headers || type === FRAME.reset)) || type === FRAME.goaway;
    const found = await this.until(ended);
    if (found === undefined) return "closed";
    if (found.type === FRAME.reset) return `reset ${found.payload.readUInt32BE(0)}`;
    if (found.type === FRAME.goaway) return `goaway ${found.payload.readUInt32BE(4)}`;
    const known: Record<number, string> = { 136: "200", 140: "400", 141: "404", 142: "500" };
    return known[found.payload[0] ?? 0] ?? "another status";
  }

  /** Why the server ended the connection; undefined when it did so without a word. */
  async goaway(): Promise<number | undefined> {
    const found = await this.until(({ type }) => type === FRAME.goaway);
    return found?.payload.readUInt32BE(4);
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      const [type = 0, flags = 0] = this.#rest.subarray(3, 5);
      const stream = this.#rest.readUInt32BE(5) & 0x7fffffff;
      this.frames.push({ type, flags, stream, payload: this.#rest.subarray(9, 9 + length) });
      this.#rest = this.#rest.subarray(9 + length);
    }
  }
}
