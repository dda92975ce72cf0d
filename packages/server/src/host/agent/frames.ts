/** Framing of docs/agent-protocol.md: `u32 length, u8 type, payload`, big endian. */
export const MAX_FRAME = 262_144;

export const REQUEST = {
  hello: 0x01,
  identity: 0x02,
  start: 0x03,
  listening: 0x04,
  hook: 0x05,
  forward: 0x06,
  watch: 0x07,
  quiesce: 0x08,
  freeze: 0x09,
  credentials: 0x0a,
  shell: 0x0b,
} as const;
/** Over a connection that is a shell's: what the host says, and what the agent does. */
export const SHELL_FRAME = {
  input: 0x10,
  inputEnd: 0x11,
  resize: 0x12,
  output: 0x90,
  errors: 0x91,
  exit: 0x92,
} as const;
export const ANSWER = 0x80;
export const FAILURE = 0xff;

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

export function encodeFrame(type: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const frame = Buffer.allocUnsafe(5 + payload.length);
  frame.writeUInt32BE(payload.length + 1, 0);
  frame.writeUInt8(type, 4);
  frame.set(payload, 5);
  return frame;
}

/** Cuts a byte stream into frames, one at a time: what follows the last one asked for need not be a frame. */
export class FrameDecoder {
  #pending: Buffer = Buffer.alloc(0);

  add(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
  }

  /** Undefined until it is complete. @throws RangeError for a length that the protocol forbids */
  next(): Frame | undefined {
    if (this.#pending.length < 4) return undefined;
    const length = this.#pending.readUInt32BE(0);
    if (length < 1 || length > MAX_FRAME) throw new RangeError(`agent frame of ${length} bytes`);
    if (this.#pending.length < 4 + length) return undefined;
    const frame = { type: this.#pending[4]!, payload: this.#pending.subarray(5, 4 + length) };
    this.#pending = this.#pending.subarray(4 + length);
    return frame;
  }

  /** What came after the last frame. */
  rest(): Buffer {
    return this.#pending;
  }
}

export interface GuestIdentity {
  readonly unixMs: number;
  /** 32 bytes */
  readonly entropy: Uint8Array;
  /** 16 bytes; zeros leave the guest's as it is */
  readonly machineId: Uint8Array;
  readonly microvmId: string;
}

export function encodeIdentity(identity: GuestIdentity): Buffer {
  const id = Buffer.from(identity.microvmId, "utf8");
  const out = Buffer.alloc(8 + 32 + 16 + 1 + id.length);
  out.writeBigUInt64BE(BigInt(Math.round(identity.unixMs * 1000)) * 1000n, 0);
  out.set(identity.entropy, 8);
  out.set(identity.machineId, 40);
  out.writeUInt8(id.length, 56);
  out.set(id, 57);
  return out;
}
