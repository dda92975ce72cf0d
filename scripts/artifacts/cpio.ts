// An initramfs from a folder: "newc" cpio, always the same bytes for the same names, contents and modes.
// usage: node cpio.ts FOLDER OUT
import { lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface CpioEntry {
  readonly name: string;
  /** Type and permissions, as in st_mode. */
  readonly mode: number;
  readonly data: Buffer;
  /** Of a device node. */
  readonly device?: { readonly major: number; readonly minor: number };
}

/** Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, i) => {
    parts.push(...record(entry, i + 1));
  });
  parts.push(...record({ name: "TRAILER!!!", mode: 0, data: Buffer.alloc(0) }, 0));
  return Buffer.concat(parts);
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  const name = Buffer.from(`${entry.name}\0`);
  const { major = 0, minor = 0 } = entry.device ?? {};
  // inode, mode, uid, gid, links, mtime, size, device of the file, device that it is, length of the name, check
  const fields = [inode, entry.mode, 0, 0, 1, 0, entry.data.length, 0, 0, major, minor, name.length, 0];
  const head = Buffer.concat([Buffer.from(`070701${fields.map(hex8).join("")}`), name]);
  return [head, padding(head.length), entry.data, padding(entry.data.length)];
}

const hex8 = (n: number): string => n.toString(16).padStart(8, "0");
const padding = (length: number): Buffer => Buffer.alloc(-length & 3);

/** Files, folders and links of a folder, parents first. Who owns them on the host does not matter. */
function entriesOf(root: string): CpioEntry[] {
  const names = (readdirSync(root, { recursive: true }) as string[]).sort((a, b) => (a < b ? -1 : 1));
  return names.map((name) => {
    const path = join(root, name);
    const info = lstatSync(path);
    if (info.isDirectory()) return { name, mode: 0o040755, data: Buffer.alloc(0) };
    if (info.isSymbolicLink()) return { name, mode: 0o120777, data: Buffer.from(readlinkSync(path)) };
    if (!info.isFile()) throw new Error(`${path} is neither file, folder nor link`);
    return { name, mode: 0o100000 | (info.mode & 0o100 ? 0o755 : 0o644), data: readFileSync(path) };
  });
}

/** The kernel opens it for its first process before that process can mount anything. */
const CONSOLE: readonly CpioEntry[] = [
  { name: "dev", mode: 0o040755, data: Buffer.alloc(0) },
  { name: "dev/console", mode: 0o020600, data: Buffer.alloc(0), device: { major: 5, minor: 1 } },
];

if (import.meta.main) {
  const [folder, out] = process.argv.slice(2);
  if (!folder || !out) throw new Error("usage: cpio.ts FOLDER OUT");
  writeFileSync(out, cpio([...CONSOLE, ...entriesOf(folder)]));
}
