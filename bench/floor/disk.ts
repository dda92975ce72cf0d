import { open, rm } from "node:fs/promises";
import { join } from "node:path";

const PIECE = Buffer.alloc(4 << 20, "torpor");
let files = 0;

/** What the disk alone takes to keep so many bytes: one new file, large writes, one fsync. */
export async function writeDurably(folder: string, bytes: number): Promise<number> {
  const path = join(folder, `floor-${process.pid}-${++files}`);
  const start = performance.now();
  try {
    await using file = await open(path, "wx", 0o600);
    for (let left = bytes; left > 0; left -= PIECE.length) await file.write(PIECE, 0, Math.min(left, PIECE.length));
    await file.sync();
    return performance.now() - start;
  } finally {
    await rm(path, { force: true });
  }
}
