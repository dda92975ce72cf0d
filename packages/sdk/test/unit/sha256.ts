import { createHash, createHmac } from "node:crypto";

type Data = string | ArrayBuffer | ArrayBufferView;
const bytes = (data: Data): Uint8Array | string =>
  typeof data === "string"
    ? data
    : ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data);

/** SHA-256 that keeps everything until the end: simpler than, and independent of, the one under test. */
export class HashOfNode {
  #parts: (string | Uint8Array)[] = [];
  readonly #secret: Data | undefined;
  constructor(secret?: Data) {
    this.#secret = secret;
  }
  update(data: Data): void {
    this.#parts.push(bytes(data));
  }
  async digest(): Promise<Uint8Array> {
    const hash = this.#secret === undefined ? createHash("sha256") : createHmac("sha256", bytes(this.#secret));
    for (const part of this.#parts) hash.update(part);
    return hash.digest();
  }
  reset(): void {
    this.#parts = [];
  }
}
