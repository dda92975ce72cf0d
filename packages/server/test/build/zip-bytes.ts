import { crc32, deflateRawSync } from "node:zlib";

/** An entry, and every lie that a test wants its headers to tell. */
export interface ZipEntry {
  readonly name: string | Buffer;
  readonly content?: string | Buffer;
  /** Whole unix mode with the file type; 0o100644 when left out. */
  readonly mode?: number;
  readonly madeBy?: number;
  readonly method?: 0 | 8 | 12;
  readonly flags?: number;
  readonly declaredSize?: number;
  readonly declaredCrc?: number;
  readonly local?: {
    readonly name?: string;
    readonly method?: number;
    readonly size?: number;
    readonly crc?: number;
    readonly flags?: number;
  };
  /** Points to another place than where this entry's data is. */
  readonly offset?: number;
  /** Sizes only in a zip64 field: what that field says. */
  readonly zip64?: { readonly size: bigint; readonly compressed: bigint };
}

/** A zip, byte by byte: nothing here checks whether it makes sense. */
export function zipBytes(
  entries: readonly ZipEntry[],
  end: { readonly count?: number; readonly directoryOffset?: number } = {},
): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let position = 0;
  for (const entry of entries) {
    const content = Buffer.from(entry.content ?? "");
    const method = entry.method ?? 8;
    const data = method === 8 ? deflateRawSync(content) : content;
    const name = Buffer.from(entry.name);
    const localName = Buffer.from(entry.local?.name ?? name);
    const crc = entry.declaredCrc ?? crc32(content);
    const size = entry.declaredSize ?? content.length;
    const flags = entry.flags ?? 0x800;

    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(20, 4);
    local.writeUInt16LE(entry.local?.flags ?? flags, 6);
    local.writeUInt16LE(entry.local?.method ?? method, 8);
    local.writeUInt16LE(0x5a21, 12);
    local.writeUInt32LE(entry.local?.crc ?? crc, 14);
    local.writeUInt32LE(data.length, 18);
    local.writeUInt32LE(entry.local?.size ?? size, 22);
    local.writeUInt16LE(localName.length, 26);

    const extra = entry.zip64 ? Buffer.alloc(20) : Buffer.alloc(0);
    if (entry.zip64) {
      extra.writeUInt16LE(1, 0);
      extra.writeUInt16LE(16, 2);
      extra.writeBigUInt64LE(entry.zip64.size, 4);
      extra.writeBigUInt64LE(entry.zip64.compressed, 12);
    }
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(((entry.madeBy ?? 3) << 8) | 20, 4);
    central.writeUInt16LE(20, 6);
    central.writeUInt16LE(flags, 8);
    central.writeUInt16LE(method, 10);
    central.writeUInt16LE(0x5a21, 14);
    central.writeUInt32LE(crc, 16);
    central.writeUInt32LE(entry.zip64 ? 0xffffffff : data.length, 20);
    central.writeUInt32LE(entry.zip64 ? 0xffffffff : size, 24);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt16LE(extra.length, 30);
    central.writeUInt32LE(((entry.mode ?? 0o100644) << 16) >>> 0, 38);
    central.writeUInt32LE(entry.offset ?? position, 42);

    parts.push(local, localName, data);
    directory.push(central, name, extra);
    position += local.length + localName.length + data.length;
  }
  const directoryBytes = Buffer.concat(directory);
  const tail = Buffer.alloc(22);
  tail.writeUInt32LE(0x06054b50, 0);
  tail.writeUInt16LE(end.count ?? entries.length, 8);
  tail.writeUInt16LE(end.count ?? entries.length, 10);
  tail.writeUInt32LE(directoryBytes.length, 12);
  tail.writeUInt32LE(end.directoryOffset ?? position, 16);
  return Buffer.concat([...parts, directoryBytes, tail]);
}

/** Files by name, as an honest zip. */
export function zipOf(files: Readonly<Record<string, string | Buffer>>): Buffer {
  return zipBytes(Object.entries(files).map(([name, content]) => ({ name, content })));
}
