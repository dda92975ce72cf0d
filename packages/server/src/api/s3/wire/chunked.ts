import { S3Error } from "../s3-error.ts";

/** Checks the signatures of `STREAMING-AWS4-HMAC-SHA256-…` bodies as they pass. */
export interface ChunkVerifier {
  update(data: Uint8Array): void;
  /** The chunk is complete. @throws S3Error SignatureDoesNotMatch */
  endChunk(signature: string): void;
  /** @throws S3Error SignatureDoesNotMatch */
  endTrailer(lines: readonly Trailer[], signature: string | undefined): void;
}

/** Name in lower case. */
export type Trailer = readonly [name: string, value: string];

export interface ChunkedOptions {
  /** Bytes that the chunks hold together. */
  readonly decodedLength: number;
  readonly verifier?: ChunkVerifier;
  /** Called once, when the body is complete and its signatures are right. */
  readonly onTrailers?: (trailers: readonly Trailer[]) => void;
}

const MAX_LINE_BYTES = 1024;
const MAX_TRAILERS = 16;
/** What S3 asks of signed chunks; the unsigned ones of some clients are as small as their source's reads. */
const MIN_SIGNED_CHUNK_BYTES = 8192;
const TRAILER_SIGNATURE = "x-amz-trailer-signature";

/**
 * Decodes `aws-chunked`: `<hex size>[;chunk-signature=<hex>] CRLF data CRLF`, a chunk of size 0, then trailer lines and
 * an empty line. Data is passed on before its chunk is checked, so nothing may be kept of it unless the iteration ends
 * without an error.
 * Source: AWS, "Signature calculations for chunked uploads", and "… with trailing headers".
 * @throws S3Error
 */
export async function* decodeChunks(
  source: AsyncIterable<Buffer>,
  options: ChunkedOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const input = new Input(source);
  try {
    yield* readChunks(input, options);
    await readTrailers(input, options);
  } finally {
    await input.close();
  }
}

async function* readChunks(input: Input, options: ChunkedOptions): AsyncGenerator<Buffer, void, undefined> {
  let total = 0;
  let smallChunk = false;
  for (;;) {
    const { size, signature } = parseChunkHeader(await input.line(), options.verifier !== undefined);
    total += size;
    if (total > options.decodedLength) throw new S3Error("IncompleteBody");
    if (size > 0 && smallChunk) throw new S3Error("InvalidChunkSizeError");
    smallChunk = options.verifier !== undefined && size < MIN_SIGNED_CHUNK_BYTES;
    for (let left = size; left > 0; ) {
      const data = await input.some(left);
      left -= data.length;
      options.verifier?.update(data);
      yield data;
    }
    options.verifier?.endChunk(signature);
    if (size === 0) break;
    if ((await input.line()) !== "") throw malformed();
  }
  if (total !== options.decodedLength) throw new S3Error("IncompleteBody");
}

async function readTrailers(input: Input, options: ChunkedOptions): Promise<void> {
  const trailers: Trailer[] = [];
  let signature: string | undefined;
  for (;;) {
    const line = await input.lineOrEnd();
    if (line === undefined || line === "") break;
    const colon = line.indexOf(":");
    if (colon < 1 || trailers.length >= MAX_TRAILERS) throw new S3Error("MalformedTrailerError");
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === TRAILER_SIGNATURE) signature = value;
    else trailers.push([name, value]);
  }
  // Some clients end the last trailer with LF and then send the CRLF of the signed form as well.
  for (let line = await input.lineOrEnd(); line !== undefined; line = await input.lineOrEnd())
    if (line !== "") throw new S3Error("MalformedTrailerError");
  options.verifier?.endTrailer(trailers, signature);
  options.onTrailers?.(trailers);
}

function parseChunkHeader(line: string, signed: boolean): { size: number; signature: string } {
  const m = /^([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?$/.exec(line);
  if (!m || (signed && m[2] === undefined)) throw malformed();
  return { size: Number.parseInt(m[1]!, 16), signature: m[2] ?? "" };
}

const malformed = (): S3Error =>
  new S3Error("InvalidRequest", { message: "The chunks of the aws-chunked body are not well-formed." });

/** The source as lines and bytes, with at most one line kept in memory. */
class Input {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The source is not read further; what it reads from is left as it is. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  /** Between 1 and `max` bytes. */
  async some(max: number): Promise<Buffer> {
    if (this.#rest.length === 0 && !(await this.#more())) throw new S3Error("IncompleteBody");
    const data = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(data.length);
    return data;
  }

  /** Without its CRLF or LF. */
  async line(): Promise<string> {
    const line = await this.lineOrEnd();
    if (line === undefined) throw new S3Error("IncompleteBody");
    return line;
  }

  /** `undefined` when nothing is left. */
  async lineOrEnd(): Promise<string | undefined> {
    for (;;) {
      const end = this.#rest.indexOf(0x0a);
      if (end > MAX_LINE_BYTES || (end < 0 && this.#rest.length > MAX_LINE_BYTES)) throw malformed();
      if (end >= 0) {
        const line = this.#rest.toString("latin1", 0, end);
        this.#rest = this.#rest.subarray(end + 1);
        return line.endsWith("\r") ? line.slice(0, -1) : line;
      }
      const before = this.#rest;
      this.#rest = Buffer.alloc(0);
      const more = await this.#more();
      this.#rest = Buffer.concat([before, this.#rest]);
      if (more) continue;
      if (this.#rest.length > 0) throw new S3Error("IncompleteBody");
      return undefined;
    }
  }

  /** Puts the next bytes into the empty rest; false at the end. */
  async #more(): Promise<boolean> {
    for (;;) {
      const next = await this.#source.next();
      if (next.done) return false;
      this.#rest = next.value;
      if (next.value.length > 0) return true;
    }
  }
}
