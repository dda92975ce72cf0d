import type { Readable } from "node:stream";
import * as yauzl from "yauzl";
import { messageOf } from "../../lib/errors.ts";
import { nameProblem } from "./archive-name.ts";
import { archiveInvalid, isSystemError } from "./build-error.ts";

// What yauzl 3 has and its type definitions, made for yauzl 2, lack.
declare module "yauzl" {
  interface Entry {
    readonly fileNameRaw: Buffer;
    getLastModDate(options: { readonly timezone: "UTC" }): Date;
  }
  interface LocalFileHeader {
    readonly fileDataStart: number;
    readonly generalPurposeBitFlag: number;
    readonly compressionMethod: number;
    readonly crc32: number;
    readonly compressedSize: number;
    readonly uncompressedSize: number;
    readonly fileName: Buffer;
  }
  interface ZipFile {
    eachEntry(): AsyncIterableIterator<Entry>;
    openReadStreamPromise(entry: Entry): Promise<Readable>;
    readLocalFileHeaderPromise(entry: Entry): Promise<LocalFileHeader>;
  }
  function openPromise(path: string, options: Options): Promise<ZipFile>;
  function getFileNameLowLevel(
    flags: number,
    raw: Buffer,
    extraFields: Entry["extraFields"],
    strictFileNames: boolean,
  ): string;
}

export interface ArchiveLimits {
  /** Sum of the files' sizes. */
  readonly maxBytes: number;
  readonly maxEntries: number;
  /** Inflated to deflated size, of entries above a mebibyte. */
  readonly maxRatio: number;
}

export interface ArchiveEntry {
  /** Relative, separated by /, without a trailing one. */
  readonly path: string;
  readonly kind: "file" | "folder" | "link";
  /** Permission bits; undefined where the archive does not say. */
  readonly mode: number | undefined;
  readonly size: number;
  readonly crc32: number;
  readonly modified: Date;
  open(): Promise<Readable>;
}

export interface Archive extends AsyncDisposable {
  /** All of them, checked: no two claim the same path, and no file's path leads through a file or a link. */
  readonly entries: readonly ArchiveEntry[];
}

const RATIO_FROM_BYTES = 1 << 20;
const ENCRYPTED = 0x1;
const SIZES_FOLLOW_DATA = 0x8;
const DEFLATED = 8;
const MADE_BY_UNIX = [3, 19];
/** By the type bits of a unix mode. */
const KINDS: ReadonlyMap<number, ArchiveEntry["kind"]> = new Map([
  [0o040000, "folder"],
  [0o100000, "file"],
  [0o120000, "link"],
]);

/**
 * Opens a zip and checks all that can be known before anything is inflated.
 * @throws BuildError ARCHIVE_INVALID naming the entry and what is wrong with it
 */
export async function openArchive(path: string, limits: ArchiveLimits, signal: AbortSignal): Promise<Archive> {
  let zip: yauzl.ZipFile;
  try {
    zip = await yauzl.openPromise(path, { autoClose: false, lazyEntries: true, decodeStrings: false });
  } catch (err) {
    if (isSystemError(err)) throw err;
    throw archiveInvalid(`the artifact is not a zip file: ${messageOf(err)}`, err);
  }
  try {
    const entries = await readEntries(zip, limits, signal);
    return { entries, [Symbol.asyncDispose]: async () => zip.close() };
  } catch (err) {
    zip.close();
    if (isSystemError(err) || signal.aborted || (err instanceof Error && err.name === "BuildError")) throw err;
    throw archiveInvalid(messageOf(err), err);
  }
}

async function readEntries(zip: yauzl.ZipFile, limits: ArchiveLimits, signal: AbortSignal): Promise<ArchiveEntry[]> {
  const tooMany = (): Error => archiveInvalid(`more than ${limits.maxEntries} entries`);
  if (zip.entryCount > limits.maxEntries) throw tooMany();
  const directoryStart = Number(zip.readEntryCursor);
  const names = new Names();
  const extents: { start: number; end: number; name: string }[] = [];
  const entries: ArchiveEntry[] = [];
  let bytes = 0;
  for await (const entry of zip.eachEntry()) {
    signal.throwIfAborted();
    if (entries.length >= limits.maxEntries) throw tooMany();
    const name = yauzl.getFileNameLowLevel(entry.generalPurposeBitFlag, entry.fileNameRaw, entry.extraFields, true);
    const refuse = (why: string): Error => archiveInvalid(`entry ${JSON.stringify(name)} ${why}`);
    const problem = nameProblem(name) ?? contentProblem(entry, limits);
    if (problem) throw refuse(problem);
    const described = describe(name, entry);
    if (typeof described === "string") throw refuse(described);
    bytes += entry.uncompressedSize;
    if (bytes > limits.maxBytes)
      throw archiveInvalid(`its files are larger than ${limits.maxBytes} bytes when unpacked`);
    const taken = names.take(described.path, described.kind);
    if (taken) throw refuse(taken);
    const local = await zip.readLocalFileHeaderPromise(entry);
    const lie = localProblem(entry, local);
    if (lie) throw refuse(lie);
    extents.push({ start: entry.relativeOffsetOfLocalHeader, end: local.fileDataStart + entry.compressedSize, name });
    entries.push({ ...described, open: () => zip.openReadStreamPromise(entry) });
  }
  checkExtents(extents, directoryStart);
  return entries;
}

function contentProblem(entry: yauzl.Entry, limits: ArchiveLimits): string | undefined {
  if (entry.generalPurposeBitFlag & ENCRYPTED) return "is encrypted";
  if (entry.compressionMethod !== 0 && entry.compressionMethod !== DEFLATED)
    return `is compressed with method ${entry.compressionMethod}; only stored and deflated entries are supported`;
  const { compressedSize, uncompressedSize } = entry;
  if (uncompressedSize > RATIO_FROM_BYTES && uncompressedSize > compressedSize * limits.maxRatio)
    return `grows to more than ${limits.maxRatio} times its size when unpacked`;
  return undefined;
}

function describe(name: string, entry: yauzl.Entry): Omit<ArchiveEntry, "open"> | string {
  const unix = MADE_BY_UNIX.includes(entry.versionMadeBy >>> 8) ? entry.externalFileAttributes >>> 16 : 0;
  const looksFolder = name.endsWith("/");
  const type = unix & 0o170000;
  const kind = type === 0 ? (looksFolder ? "folder" : "file") : KINDS.get(type);
  if (!kind) return "is a device, a pipe or a socket";
  if ((kind === "folder") !== looksFolder) return "says both that it is a folder and that it is not";
  if (kind === "folder" && entry.uncompressedSize > 0) return "is a folder with content";
  if (kind === "file" && unix & 0o6000) return "has its set-user-id or set-group-id bit on";
  return {
    path: looksFolder ? name.slice(0, -1) : name,
    kind,
    mode: (unix & 0o777) === 0 ? undefined : unix & 0o777,
    size: entry.uncompressedSize,
    crc32: entry.crc32 >>> 0,
    modified: entry.getLastModDate({ timezone: "UTC" }),
  };
}

/** What stands before the data must be what the directory at the end says, or two readers see two archives. */
function localProblem(entry: yauzl.Entry, local: yauzl.LocalFileHeader): string | undefined {
  const differs = "is described differently in the directory and before its data";
  if (!local.fileName.equals(entry.fileNameRaw)) return `${differs}: its name`;
  if (local.compressionMethod !== entry.compressionMethod) return `${differs}: its compression`;
  if ((local.generalPurposeBitFlag & ENCRYPTED) !== (entry.generalPurposeBitFlag & ENCRYPTED))
    return `${differs}: its encryption`;
  if (local.generalPurposeBitFlag & SIZES_FOLLOW_DATA) return undefined;
  const large = 0xffffffff; // the real size is in a zip64 field
  if (local.uncompressedSize !== large && local.uncompressedSize !== entry.uncompressedSize)
    return `${differs}: its size`;
  if (local.compressedSize !== large && local.compressedSize !== entry.compressedSize)
    return `${differs}: its compressed size`;
  if (local.crc32 >>> 0 !== entry.crc32 >>> 0) return `${differs}: its checksum`;
  return undefined;
}

/** Overlapping entries are how a small archive becomes a large one without a high ratio. */
function checkExtents(extents: { start: number; end: number; name: string }[], directoryStart: number): void {
  extents.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const extent of extents) {
    if (extent.start < end) throw archiveInvalid(`entry ${JSON.stringify(extent.name)} overlaps another one`);
    if (extent.end > directoryStart)
      throw archiveInvalid(`entry ${JSON.stringify(extent.name)} reaches into the archive's directory`);
    end = extent.end;
  }
}

/** Which paths are taken, compared as the same text however it is encoded. */
class Names {
  readonly #kinds = new Map<string, ArchiveEntry["kind"] | "implied">();

  take(path: string, kind: ArchiveEntry["kind"]): string | undefined {
    const name = path.normalize("NFC");
    for (let i = name.indexOf("/"); i !== -1; i = name.indexOf("/", i + 1)) {
      const parent = name.slice(0, i);
      const is = this.#kinds.get(parent);
      if (is === "link") return `lies behind the link ${JSON.stringify(parent)}`;
      if (is === "file") return `lies in ${JSON.stringify(parent)}, which is a file`;
      if (is === undefined) this.#kinds.set(parent, "implied");
    }
    const before = this.#kinds.get(name);
    if (before === "implied" && kind !== "folder") return "has the name of a folder";
    if (before !== undefined && before !== "implied") return "is there twice";
    this.#kinds.set(name, kind);
    return undefined;
  }
}
