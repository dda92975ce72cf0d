import { type FileHandle, open } from "node:fs/promises";
import type { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import { z } from "zod";

/**
 * One object, one file: the data from offset 0, then a trailer: JSON, its length, its CRC and a magic. Everything
 * about an object so appears and disappears with one rename, and a reader that has the file open keeps a whole object.
 */
const MAGIC = Buffer.from("TORPOBJ1");
const FOOTER_BYTES = 4 + 4 + MAGIC.length;
/** Read in one go from the end: nearly always the whole trailer. */
const TAIL_BYTES = 2048;
const MAX_JSON_BYTES = 64 * 1024;

const pairs = z.array(z.tuple([z.string(), z.string()])).readonly();

const objectMeta = z
  .object({
    key: z.string(),
    size: z.number().int().nonnegative(),
    /** Hex MD5, or that of the parts' MD5s with `-<parts>`; without quotes. */
    etag: z.string(),
    /** Milliseconds since the epoch. */
    lastModified: z.number(),
    /** Content-Type and its like, lower-case names, as they came. */
    headers: pairs,
    /** The part after `x-amz-meta-`, lower case, and the value. */
    userMetadata: pairs,
    checksums: z.partialRecord(z.enum(["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5"]), z.string()),
    checksumType: z.enum(["FULL_OBJECT", "COMPOSITE"]),
    /** The multipart upload that it was made by: a repeated completion finds its own result. */
    uploadId: z.string().optional(),
  })
  .readonly();
export type ObjectMeta = z.infer<typeof objectMeta>;

export function encodeTrailer(meta: ObjectMeta): Buffer {
  const json = Buffer.from(JSON.stringify(meta));
  if (json.length > MAX_JSON_BYTES) throw new Error(`metadata of ${json.length} bytes`);
  const footer = Buffer.alloc(FOOTER_BYTES);
  footer.writeUInt32LE(json.length, 0);
  footer.writeUInt32LE(crc32(json), 4);
  MAGIC.copy(footer, 8);
  return Buffer.concat([json, footer]);
}

/** An object held open: what happens to its name does not touch it. Close it, or read it to its end. */
export class OpenObject implements AsyncDisposable {
  readonly meta: ObjectMeta;
  readonly #handle: FileHandle;

  constructor(meta: ObjectMeta, handle: FileHandle) {
    this.meta = meta;
    this.#handle = handle;
  }

  /** Bytes `first` to `last`, both included. The file is closed when the stream ends or is destroyed. */
  stream(first = 0, last = this.meta.size - 1): Readable {
    // An empty range cannot be said with inclusive ends: read nothing by starting at the end of the file.
    const range = last < first ? { start: Number.MAX_SAFE_INTEGER - 1 } : { start: first, end: last };
    return this.#handle.createReadStream({ ...range, highWaterMark: 256 * 1024, autoClose: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** `undefined` when there is no such file. @throws Error when it is not a whole object file */
export async function openObject(path: string): Promise<OpenObject | undefined> {
  const handle = await openIfThere(path);
  if (!handle) return undefined;
  try {
    return new OpenObject(await readTrailer(handle, path), handle);
  } catch (err) {
    await handle.close();
    throw err;
  }
}

/** Only what is known of it. `undefined` when there is no such file. @throws as openObject */
export async function readObjectMeta(path: string): Promise<ObjectMeta | undefined> {
  await using object = await openObject(path);
  return object?.meta;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (err) {
    if (err instanceof Error && "code" in err && err.code === "ENOENT") return undefined;
    throw err;
  }
}

async function readTrailer(handle: FileHandle, path: string): Promise<ObjectMeta> {
  const { size: fileSize } = await handle.stat();
  let tail = await readEnd(handle, fileSize, TAIL_BYTES);
  if (tail.length < FOOTER_BYTES || !tail.subarray(-MAGIC.length).equals(MAGIC))
    throw new Error(`${path} is not an object file`);
  const jsonBytes = tail.readUInt32LE(tail.length - FOOTER_BYTES);
  const expected = tail.readUInt32LE(tail.length - FOOTER_BYTES + 4);
  const trailerBytes = jsonBytes + FOOTER_BYTES;
  if (jsonBytes > MAX_JSON_BYTES || trailerBytes > fileSize) throw new Error(`${path}: its trailer is damaged`);
  if (trailerBytes > tail.length) tail = await readEnd(handle, fileSize, trailerBytes);
  const json = tail.subarray(tail.length - trailerBytes, tail.length - FOOTER_BYTES);
  if (crc32(json) !== expected) throw new Error(`${path}: its trailer is damaged`);
  const meta = objectMeta.parse(JSON.parse(json.toString("utf8")));
  if (meta.size !== fileSize - trailerBytes)
    throw new Error(`${path}: holds ${fileSize - trailerBytes} bytes of ${meta.size}`);
  return meta;
}

async function readEnd(handle: FileHandle, fileSize: number, bytes: number): Promise<Buffer> {
  const length = Math.min(bytes, fileSize);
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, fileSize - length);
  if (bytesRead !== length) throw new Error(`short read: ${bytesRead} of ${length} bytes`);
  return buffer;
}
