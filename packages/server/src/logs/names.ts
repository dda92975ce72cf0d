import { createHash } from "node:crypto";

/** Where events go. Group and stream are the caller's words. */
export interface LogTarget {
  readonly accountId: string;
  readonly group: string;
  readonly stream: string;
}

/**
 * The folder of a group or stream: nothing of the name is in it, so that no name can lead anywhere else, be too long for
 * a file system, or be the same as another one but for its case.
 */
export function folderOf(name: string): string {
  return createHash("sha256").update(name).digest("hex").slice(0, 40);
}

export const FOLDER = /^[0-9a-f]{40}$/;
export const ACCOUNT = /^\d{12}$/;

/** By code point, as the service sorts names. */
export function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
