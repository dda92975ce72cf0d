import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { appendFile, rm, writeFile } from "node:fs/promises";
import { PAGE, PageFile } from "./memory.ts";
import type { Pages } from "./software.ts";

/** A layer is this, the disk's size, and then what was written: the block's number and its bytes, the newest last. */
const MAGIC = "FAKELAYR";
const HEADER = 16;
const RECORD = 8 + PAGE;

export async function createLayer(path: string, diskBytes: number): Promise<void> {
  await writeFile(path, header(diskBytes), { flag: "wx", mode: 0o600 });
}

/** @param halfWay called when part of the file is there */
export async function mergeLayers(
  out: string,
  diskBytes: number,
  layers: readonly string[],
  halfWay: () => Promise<void>,
): Promise<void> {
  await createLayer(out, diskBytes);
  try {
    await halfWay();
    const records = layers.map((layer) => readFileSync(layer).subarray(HEADER));
    await appendFile(out, Buffer.concat(records), { flush: true });
  } catch (err) {
    await rm(out, { force: true });
    throw err;
  }
}

function header(diskBytes: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.write(MAGIC);
  bytes.writeBigUInt64LE(BigInt(diskBytes), 8);
  return bytes;
}

class Layer {
  readonly #fd: number;
  readonly #at = new Map<number, number>();
  #end: number;

  constructor(path: string, flags: "r" | "r+", diskBytes: number) {
    this.#fd = openSync(path, flags);
    const file = readFileSync(path);
    if (file.length < HEADER || !file.subarray(0, HEADER).equals(header(diskBytes)))
      throw new Error(`${path} is not a layer of a disk of ${diskBytes} bytes`);
    this.#end = fstatSync(this.#fd).size;
    for (let at = HEADER; at + RECORD <= this.#end; at += RECORD)
      this.#at.set(Number(file.readBigUInt64LE(at)), at + 8);
  }

  read(block: number): Buffer | undefined {
    const at = this.#at.get(block);
    if (at === undefined) return undefined;
    const bytes = Buffer.alloc(PAGE);
    readSync(this.#fd, bytes, 0, PAGE, at);
    return bytes;
  }

  write(block: number, bytes: Uint8Array): void {
    const record = Buffer.alloc(RECORD);
    record.writeBigUInt64LE(BigInt(block));
    record.set(bytes, 8);
    writeSync(this.#fd, record, 0, RECORD, this.#end);
    this.#at.set(block, this.#end + 8);
    this.#end += RECORD;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** A template's disk with layers above it, of which the last is written. Everything is in its file when a call returns. */
export class LayeredDisk implements Pages {
  readonly #base: PageFile;
  readonly #layers: Layer[] = [];
  readonly #diskBytes: number;

  constructor(base: string, diskBytes: number, layers: readonly string[], active: string) {
    this.#diskBytes = diskBytes;
    this.#base = new PageFile(base, "r");
    try {
      for (const layer of layers) this.#layers.push(new Layer(layer, "r", diskBytes));
      this.switchTo(active);
    } catch (err) {
      this.close();
      throw err;
    }
  }

  switchTo(next: string): void {
    this.#layers.push(new Layer(next, "r+", this.#diskBytes));
  }

  read(block: number): Buffer {
    for (const layer of this.#layers.toReversed()) {
      const bytes = layer.read(block);
      if (bytes) return bytes;
    }
    return this.#base.read(block);
  }

  write(block: number, bytes: Uint8Array): void {
    this.#layers.at(-1)!.write(block, bytes);
  }

  close(): void {
    for (const layer of this.#layers.splice(0)) layer.close();
    this.#base.close();
  }
}
