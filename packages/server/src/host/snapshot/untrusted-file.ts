import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

/**
 * Opens a file that a VMM made: a link, a pipe or a device in its place must not lead us anywhere.
 * @throws Error when it is not a plain file with one name
 */
export async function openUntrusted(path: string, mode: "read" | "sync" = "read"): Promise<FileHandle> {
  const access = mode === "read" ? constants.O_RDONLY : constants.O_RDWR;
  const file = await open(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const st = await file.stat();
  if (!st.isFile() || st.nlink !== 1) {
    await file.close();
    throw new Error(`${path} is not a plain file`);
  }
  return file;
}
