import { z } from "zod";
import { abortable } from "../../lib/abortable.ts";
import { run } from "../../lib/run.ts";

export interface ChecksumOptions {
  /** As the page cache has it, which holds what was just written; else as the device has it. */
  readonly cached?: boolean;
  /** Behind everybody else. */
  readonly idle?: boolean;
  /** Bytes a second, at most. */
  readonly pace?: number;
}

const fileSum = z.object({
  path: z.string(),
  bytes: z.number(),
  sha256: z.string().optional(),
  inode: z.string().optional(),
  changed: z.string().optional(),
  damage: z.string().optional(),
});

/** What a file is: its digest and what identifies it, or what it lacks. */
export type FileSum =
  | { readonly damage: string }
  | { readonly sha256: string; readonly bytes: number; readonly inode: string; readonly changed: string };

/**
 * Reads files from end to end; answers in their order. To give up is immediate.
 * @throws Error when that could not be done: no word about the files
 */
export type Checksums = (
  paths: readonly string[],
  options: ChecksumOptions,
  signal: AbortSignal,
) => Promise<readonly FileSum[]>;

/** A process of its own each time: it reads for long, steps back behind others, and can be ended at any moment. */
export const helperChecksums =
  (helper: string): Checksums =>
  async (paths, { cached, idle, pace }, signal) => {
    if (paths.length === 0) return [];
    const flags = [
      ...(cached ? ["--cached"] : []),
      ...(idle ? ["--idle"] : []),
      ...(pace === undefined ? [] : ["--pace", String(pace)]),
    ];
    const reading = run(helper, ["checksum", ...flags, ...paths], { signal });
    // Behind everybody else it also ends late: nobody waits for that.
    const text = await abortable(reading, signal);
    const sums = text
      .trim()
      .split("\n")
      .map((line) => fileSum.parse(JSON.parse(line)));
    if (sums.some(({ path }, i) => path !== paths[i]) || sums.length !== paths.length)
      throw new Error("the helper answered for other files than it was asked for");
    return sums.map(({ bytes, sha256, inode, changed, damage }) =>
      sha256 === undefined || inode === undefined || changed === undefined
        ? { damage: damage ?? "cannot be read" }
        : { sha256, bytes, inode, changed },
    );
  };
