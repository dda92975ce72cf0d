import { constants } from "node:fs";
import { chmod, lchown, mkdir, open, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { messageOf } from "../../lib/errors.ts";
import { BuildError } from "../host-client.ts";
import { type ArchiveEntry, type ArchiveLimits, openArchive } from "./archive.ts";
import { linkProblem } from "./archive-name.ts";
import { archiveInvalid, diskFull, isNoSpace, isSystemError } from "./build-error.ts";

export interface UnpackOptions {
  /** Who owns everything that is unpacked; ours when left out. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly limits: ArchiveLimits;
}

const LINK_TARGET_BYTES = 4096;
const EXCLUSIVE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Unpacks a zip into `folder`, which must not exist yet and which nobody else may write to. A failure leaves a part of
 * it behind: the caller removes the folder.
 * @throws BuildError ARCHIVE_INVALID, ARCHIVE_DOCKERFILE_NOT_FOUND or DISK_STORAGE_FULL
 */
export async function unpackArchive(
  zipPath: string,
  folder: string,
  options: UnpackOptions,
  signal: AbortSignal,
): Promise<{ readonly entries: number; readonly bytes: number }> {
  try {
    await using archive = await openArchive(zipPath, options.limits, signal);
    requireDockerfile(archive.entries);
    const tree = new Tree(folder, options.owner);
    await tree.begin();
    let bytes = 0;
    for (const entry of archive.entries) {
      signal.throwIfAborted();
      if (entry.kind === "folder") await tree.folder(entry.path, entry.mode);
      if (entry.kind === "file") bytes += await tree.file(entry, options.limits.maxBytes - bytes);
    }
    // Links last: until here no path below the folder can lead through one.
    for (const entry of archive.entries) if (entry.kind === "link") await tree.link(entry);
    await tree.finish();
    return { entries: archive.entries.length, bytes };
  } catch (err) {
    if (isNoSpace(err)) throw diskFull("there is no room to unpack the artifact", err);
    if (err instanceof BuildError || isSystemError(err) || signal.aborted) throw err;
    throw archiveInvalid(messageOf(err), err);
  }
}

function requireDockerfile(entries: readonly ArchiveEntry[]): void {
  const found = entries.find((entry) => entry.path === "Dockerfile");
  if (found?.kind === "file") return;
  const problem = found
    ? "the Dockerfile at the archive's root is not a file"
    : "the archive has no Dockerfile at its root";
  const elsewhere = entries.find((entry) => entry.kind === "file" && /^[^/]+\/Dockerfile$/.test(entry.path));
  const hint = elsewhere
    ? `, only ${JSON.stringify(elsewhere.path)}: zip what is in the folder, not the folder itself`
    : "";
  throw new BuildError("ARCHIVE_DOCKERFILE_NOT_FOUND", `ARCHIVE_DOCKERFILE_NOT_FOUND: ${problem}${hint}`);
}

/** Writes below one folder, each name exclusively and never through a link. */
class Tree {
  readonly #root: string;
  readonly #owner: UnpackOptions["owner"];
  /** Folders that exist, with the modes that they get at the end: one without w could not be filled. */
  readonly #folders = new Map<string, number>();

  constructor(root: string, owner: UnpackOptions["owner"]) {
    this.#root = root;
    this.#owner = owner;
  }

  async begin(): Promise<void> {
    await mkdir(this.#root, { mode: 0o755 });
    this.#folders.set(".", 0o755);
  }

  async folder(path: string, mode: number | undefined): Promise<void> {
    await this.#ensure(path);
    this.#folders.set(path, mode ?? 0o755);
  }

  async file(entry: ArchiveEntry, room: number): Promise<number> {
    await this.#ensure(dirname(entry.path));
    const file = await open(join(this.#root, entry.path), EXCLUSIVE, 0o600);
    try {
      let bytes = 0;
      let sum = 0;
      for await (const chunk of await entry.open()) {
        bytes += chunk.length;
        if (bytes > room) throw archiveInvalid("its files are larger than allowed when unpacked");
        sum = crc32(chunk, sum);
        await file.writeFile(chunk);
      }
      if (sum !== entry.crc32) throw archiveInvalid(`entry ${JSON.stringify(entry.path)} does not match its checksum`);
      if (this.#owner) await file.chown(this.#owner.uid, this.#owner.gid);
      await file.chmod(entry.mode ?? 0o644);
      if (!Number.isNaN(entry.modified.getTime())) await file.utimes(entry.modified, entry.modified);
      return bytes;
    } catch (err) {
      if (err instanceof BuildError || isSystemError(err)) throw err;
      throw archiveInvalid(`entry ${JSON.stringify(entry.path)}: ${messageOf(err)}`, err);
    } finally {
      await file.close();
    }
  }

  async link(entry: ArchiveEntry): Promise<void> {
    const refuse = (why: string): Error => archiveInvalid(`entry ${JSON.stringify(entry.path)} ${why}`);
    if (entry.size > LINK_TARGET_BYTES) throw refuse(`is a link to a path longer than ${LINK_TARGET_BYTES} bytes`);
    const chunks: Buffer[] = [];
    for await (const chunk of await entry.open()) chunks.push(chunk);
    const target = Buffer.concat(chunks);
    if (crc32(target) !== entry.crc32) throw refuse("does not match its checksum");
    const problem = linkProblem(entry.path, target.toString("utf8"));
    if (problem) throw refuse(problem);
    await this.#ensure(dirname(entry.path));
    const path = join(this.#root, entry.path);
    await symlink(target, path);
    if (this.#owner) await lchown(path, this.#owner.uid, this.#owner.gid);
  }

  /** Deepest first, so that a folder that nobody may enter does not hide those in it. */
  async finish(): Promise<void> {
    for (const [path, mode] of [...this.#folders].reverse()) {
      const whole = join(this.#root, path);
      if (this.#owner) await lchown(whole, this.#owner.uid, this.#owner.gid);
      await chmod(whole, mode);
    }
  }

  async #ensure(path: string): Promise<void> {
    if (this.#folders.has(path)) return;
    await this.#ensure(dirname(path));
    await mkdir(join(this.#root, path), { mode: 0o700 });
    this.#folders.set(path, 0o755);
  }
}
