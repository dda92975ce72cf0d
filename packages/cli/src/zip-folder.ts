import { createWriteStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { ZipFile } from "yazl";
import { Failure } from "./failure.ts";

/** What is never part of an artifact. */
const SKIPPED = new Set([".git"]);
/** The same content gives the same zip, whenever it was written. 1980 is where zip's calendar begins. */
const MTIME = new Date(1980, 0, 1);

/**
 * Packs a folder into a new zip file: modes and symbolic links kept, names in order, times left out. The same folder
 * gives the same bytes.
 * @throws Failure when the folder cannot be an artifact
 */
export async function zipFolder(folder: string, target: string, signal: AbortSignal): Promise<void> {
  const zip = new ZipFile();
  const written = pipeline(zip.outputStream, createWriteStream(target, { flags: "wx", mode: 0o600 }), { signal });
  written.catch(() => {}); // awaited below, after what we found ourselves has been said
  try {
    if ((await addFolder(zip, folder, "", signal)) === 0) throw new Failure(`${folder} is empty`);
  } catch (err) {
    zip.end(); // lets the writer come to its end
    await written.catch(() => {});
    throw err;
  }
  zip.end();
  await written;
}

async function addFolder(zip: ZipFile, folder: string, prefix: string, signal: AbortSignal): Promise<number> {
  let added = 0;
  const names = (await readdir(folder)).filter((name) => !SKIPPED.has(name)).sort();
  for (const name of names) {
    signal.throwIfAborted();
    const path = join(folder, name);
    const inside = prefix + name;
    const stat = await lstat(path);
    const options = { mtime: MTIME, mode: stat.mode };
    if (stat.isDirectory()) {
      zip.addEmptyDirectory(inside, options);
      added += await addFolder(zip, path, `${inside}/`, signal);
    } else if (stat.isFile()) zip.addFile(path, inside, options);
    else if (stat.isSymbolicLink()) zip.addBuffer(Buffer.from(await readlink(path)), inside, options);
    else throw new Failure(`${path} is neither a file nor a folder: an artifact cannot hold it`);
    added += 1;
  }
  return added;
}
