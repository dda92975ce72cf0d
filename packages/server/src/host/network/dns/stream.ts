/** DNS over TCP: each message behind its length in two bytes. */
export const framed = (message: Uint8Array): Buffer => {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
};

/** Cuts a stream into messages; it never holds more than one of them, and what has come of the next. */
export class MessageReader {
  readonly #maxBytes: number;
  #rest: Buffer = Buffer.alloc(0);

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The messages that are whole now; undefined when the other side means to send a longer one than it may. */
  push(chunk: Uint8Array): Buffer[] | undefined {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const whole: Buffer[] = [];
    while (this.#rest.length >= 2) {
      const length = this.#rest.readUInt16BE(0);
      if (length > this.#maxBytes) return undefined;
      if (this.#rest.length < 2 + length) break;
      whole.push(this.#rest.subarray(2, 2 + length));
      this.#rest = this.#rest.subarray(2 + length);
    }
    return whole;
  }
}
