// The ELF kernel inside a bzImage, which QEMU boots directly (PVH): no firmware, no decompressor in the guest.
// usage: node extract-vmlinux.ts VMLINUZ OUT
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { gunzipSync, zstdDecompressSync } from "node:zlib";

/** Far above any kernel, and what keeps a damaged file from filling memory. */
const MAX_KERNEL_BYTES = 512 << 20;

interface Payload {
  readonly data: Buffer;
  /** The kernel's build appends it to formats that do not record it themselves. */
  readonly unpackedBytes: number | undefined;
}

/**
 * The compressed kernel, found by the setup header.
 * Source: Linux Documentation/arch/x86/boot.rst, payload_offset and payload_length
 */
export function findPayload(image: Buffer): Payload {
  if (image.length < 0x250 || image.toString("latin1", 0x202, 0x206) !== "HdrS")
    throw new Error("not a bzImage: it has no setup header");
  const version = image.readUInt16LE(0x206);
  if (version < 0x0208) throw new Error(`boot protocol ${version.toString(16)} has no payload fields`);
  const setupSectors = image.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const end = start + image.readUInt32LE(0x24c);
  if (start >= end || end > image.length) throw new Error(`payload ${start}–${end} is beyond the file`);
  const data = image.subarray(start, end);
  if (formatOf(data) === "gzip") return { data, unpackedBytes: undefined };
  return { data: data.subarray(0, -4), unpackedBytes: data.readUInt32LE(data.length - 4) };
}

const MAGIC: Readonly<Record<string, readonly number[]>> = {
  gzip: [0x1f, 0x8b],
  xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a],
  lz4: [0x02, 0x21, 0x4c, 0x18],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
};

function formatOf(data: Buffer): string | undefined {
  return Object.keys(MAGIC).find((name) => MAGIC[name]!.every((byte, i) => data[i] === byte));
}

function unpack(data: Buffer): Buffer {
  const format = formatOf(data);
  const tool = (command: string): Buffer =>
    execFileSync(command, ["-dc"], { input: data, maxBuffer: MAX_KERNEL_BYTES, stdio: ["pipe", "pipe", "inherit"] });
  switch (format) {
    case "gzip":
      return gunzipSync(data, { maxOutputLength: MAX_KERNEL_BYTES });
    case "zstd":
      return zstdDecompressSync(data, { maxOutputLength: MAX_KERNEL_BYTES });
    case "xz":
    case "lz4":
      return tool(format);
    default:
      throw new Error(`payload is compressed in a way that is not known: ${data.toString("hex", 0, 8)}`);
  }
}

const PT_NOTE = 4;
/** Type of the note with the 32-bit entry point. Source: Xen, public/elfnote.h */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** @throws Error when the ELF file has no PVH entry: QEMU could not boot it */
export function requirePvh(elf: Buffer): void {
  if (elf.toString("latin1", 0, 4) !== "\x7fELF" || elf[4] !== 2) throw new Error("payload is not a 64-bit ELF file");
  const headers = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  for (let i = 0; i < count; i++) {
    const header = headers + i * size;
    if (elf.readUInt32LE(header) !== PT_NOTE) continue;
    const start = Number(elf.readBigUInt64LE(header + 8));
    if (hasPvhNote(elf.subarray(start, start + Number(elf.readBigUInt64LE(header + 32))))) return;
  }
  throw new Error("kernel has no PVH entry note (CONFIG_PVH)");
}

function hasPvhNote(notes: Buffer): boolean {
  const padded = (n: number): number => (n + 3) & ~3;
  for (let at = 0; at + 12 <= notes.length; ) {
    const [nameBytes, dataBytes, type] = [at, at + 4, at + 8].map((o) => notes.readUInt32LE(o)) as [
      number,
      number,
      number,
    ];
    if (type === XEN_ELFNOTE_PHYS32_ENTRY && notes.toString("latin1", at + 12, at + 15) === "Xen") return true;
    at += 12 + padded(nameBytes) + padded(dataBytes);
  }
  return false;
}

if (import.meta.main) {
  const [source, target] = process.argv.slice(2);
  if (!source || !target) throw new Error("usage: extract-vmlinux.ts VMLINUZ OUT");
  const payload = findPayload(readFileSync(source));
  const elf = unpack(payload.data);
  if (payload.unpackedBytes !== undefined && payload.unpackedBytes !== elf.length)
    throw new Error(`kernel unpacks to ${elf.length} bytes and should to ${payload.unpackedBytes}`);
  requirePvh(elf);
  writeFileSync(target, elf);
}
