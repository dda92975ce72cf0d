import { errnoOf } from "../../lib/errors.ts";
import { BuildError } from "../host-client.ts";

/** The service's recorded sentence, then what a person needs to mend it. */
export function buildFailed(detail: string, cause?: unknown): BuildError {
  return new BuildError("CONTAINER_BUILD_FAILED", `The container image build failed. ${detail}`, { cause });
}

export function archiveInvalid(detail: string, cause?: unknown): BuildError {
  return new BuildError("ARCHIVE_INVALID", `ARCHIVE_INVALID: ${detail}`, { cause });
}

export function diskFull(detail: string, cause?: unknown): BuildError {
  return new BuildError("DISK_STORAGE_FULL", `DISK_STORAGE_FULL: ${detail}`, { cause });
}

/** A failed system call of ours that says that there is no room. */
export function isNoSpace(err: unknown): boolean {
  const code = errnoOf(err);
  return code === "ENOSPC" || code === "EDQUOT";
}

/** A failed system call, as opposed to a library's complaint about bytes that it was given. */
export function isSystemError(err: unknown): boolean {
  const code = errnoOf(err);
  return code !== undefined && /^E[A-Z0-9]+$/.test(code);
}
