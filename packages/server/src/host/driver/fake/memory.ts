import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { appendFile, readFile, rm, writeFile } from "node:fs/promises";
import { errnoOf, messageOf } from "../../../lib/errors.ts";
import { type MemoryDiff, type MemoryFile, SnapshotError } from "../driver.ts";
import type { Pages } from "./software.ts";

export const PAGE = 4096;
const ZEROS = Buffer.alloc(PAGE);
const MAGIC = "FAKEDIFF";

/** Contents of pages, by number. A buffer is never changed once it is in here. */
export type PageMap = ReadonlyMap<number, Buffer>;

/** A file that holds a guest's memory, or its raw disk. */
export class PageFile implements Pages {
  readonly #fd: number;
  readonly bytes: number;

  constructor(path: string, flags: "r" | "r+") {
    this.#fd = openSync(path, flags);
    this.bytes = fstatSync(this.#fd).size;
  }

  read(page: number): Buffer {
    const bytes = Buffer.alloc(PAGE);
    readSync(this.#fd, bytes, 0, PAGE, page * PAGE);
    return bytes;
  }

  write(page: number, bytes: Uint8Array): void {
    if ((page + 1) * PAGE > this.bytes) throw new RangeError(`page ${page} of ${this.bytes / PAGE}`);
    writeSync(this.#fd, whole(bytes), 0, PAGE, page * PAGE);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Memory that is the template's until it is written. */
export class CloneMemory implements Pages {
  readonly template: PageFile;
  #own = new Map<number, Buffer>();

  constructor(template: string) {
    this.template = new PageFile(template, "r");
  }

  read(page: number): Buffer {
    return Buffer.from(this.#own.get(page) ?? this.template.read(page));
  }

  write(page: number, bytes: Uint8Array): void {
    if ((page + 1) * PAGE > this.template.bytes) throw new RangeError(`page ${page} of ${this.template.bytes / PAGE}`);
    this.#own.set(page, whole(bytes));
  }

  load(pages: PageMap): void {
    this.#own = new Map([...this.#own, ...pages]);
  }

  /** Its own pages as they are now. */
  image(): PageMap {
    return new Map(this.#own);
  }

  close(): void {
    this.template.close();
  }
}

/** @param halfWay called when part of the file is there */
export async function saveDiff(
  image: PageMap,
  template: PageFile,
  out: string,
  parents: readonly string[],
  halfWay: () => Promise<void>,
): Promise<MemoryDiff> {
  const before = new Map<number, Buffer>();
  for (const path of parents) for (const [page, bytes] of await readDiff({ path })) before.set(page, bytes);
  const changed = [...image].filter(([page, bytes]) => !bytes.equals(before.get(page) ?? template.read(page)));
  changed.sort(([a], [b]) => a - b);
  const index = Buffer.from(
    JSON.stringify({ memoryBytes: template.bytes, pages: changed.map(([page, bytes]) => [page, sha256(bytes)]) }),
  );
  const trailer = Buffer.alloc(12);
  trailer.writeUInt32LE(index.length);
  trailer.write(MAGIC, 4);
  const data = Buffer.concat(changed.map(([, bytes]) => bytes));
  await writeFile(out, data, { flag: "wx", mode: 0o600 });
  try {
    await halfWay();
    await appendFile(out, Buffer.concat([index, trailer]), { flush: true });
  } catch (err) {
    await rm(out, { force: true });
    throw err;
  }
  const after = new Map([...before, ...changed]);
  return {
    sha256: sha256(Buffer.concat([data, index, trailer])),
    indexSha256: sha256(index),
    bytes: data.length + index.length + trailer.length,
    dataPages: changed.length,
    scannedPages: image.size,
    samePages: image.size - changed.length,
    livePages: after.size,
  };
}

/** @throws SnapshotError `corrupt` */
export async function readDiff({ path, indexSha256 }: Partial<MemoryFile> & { path: string }): Promise<PageMap> {
  const corrupt = (what: string): SnapshotError => new SnapshotError("corrupt", `${path}: ${what}`);
  const file = await contents(path);
  const at = file.length - 12;
  if (at < 0 || file.toString("latin1", at + 4) !== MAGIC) throw corrupt("not a diff, or cut short");
  const dataEnd = at - file.readUInt32LE(at);
  if (dataEnd < 0) throw corrupt("cut short");
  const bytes = file.subarray(dataEnd, at);
  if (indexSha256 !== undefined && sha256(bytes) !== indexSha256) throw corrupt("its index is another one");
  let index: { readonly pages: readonly (readonly [number, string])[] };
  try {
    index = JSON.parse(bytes.toString("utf8")) as typeof index;
  } catch (err) {
    throw corrupt(`its index is damaged: ${messageOf(err)}`);
  }
  if (index.pages.length * PAGE !== dataEnd) throw corrupt(`${dataEnd} bytes for ${index.pages.length} pages`);
  return new Map(
    index.pages.map(([page, digest], n) => {
      const data = file.subarray(n * PAGE, (n + 1) * PAGE);
      if (sha256(data) !== digest) throw corrupt(`page ${page} is damaged`);
      return [page, data];
    }),
  );
}

/** @throws SnapshotError `corrupt` */
export async function verifyDiff(path: string, digest: string): Promise<void> {
  await readDiff({ path });
  const found = sha256(await contents(path));
  if (found !== digest) throw new SnapshotError("corrupt", `${path}: its sha256 is ${found}, not ${digest}`);
}

/** @throws SnapshotError `corrupt` when it is missing */
export async function contents(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (err) {
    if (errnoOf(err) !== "ENOENT") throw err;
    throw new SnapshotError("corrupt", `${path} is missing`, { cause: err });
  }
}

function whole(bytes: Uint8Array): Buffer {
  if (bytes.length > PAGE) throw new RangeError(`${bytes.length} bytes in a page`);
  return Buffer.concat([bytes, ZEROS], PAGE);
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
