import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../lib/atomic-file.ts";
import { errnoOf } from "../lib/errors.ts";
import type { InstanceDir } from "./driver/driver.ts";

/**
 * Where an instance stands, durable before anything acts on it. The phase decides what a crash means:
 * `launching`: no client was told that it runs, so it is undone; `running`: a live VMM is the truth, a dead one the
 * end; `suspended`: the snapshot is the truth, a VMM that is still there is a remnant.
 */
const instanceRecord = z.object({
  schema: z.literal(1),
  microvmId: z.string(),
  templateId: z.string(),
  phase: z.enum(["launching", "running", "suspended"]),
  /** The slot it holds, while it has a VMM. */
  slot: z.number().int().nullable(),
  /** Number of the newest snapshot; 0 before the first. */
  snapshot: z.number().int().nonnegative(),
  /** Sealed layers, oldest first: names in `disks`. */
  layers: z.array(z.string()),
  /** The layer that the VMM writes; null while there is none. */
  activeDisk: z.string().nullable(),
});
export type InstanceRecord = z.infer<typeof instanceRecord>;

const fileOf = (dir: InstanceDir): string => join(dir.path, "instance.json");

export async function writeRecord(dir: InstanceDir, record: InstanceRecord): Promise<void> {
  await writeFileAtomic(fileOf(dir), JSON.stringify(record));
}

/** Undefined when the directory has none or it is damaged: there is nothing to go on from. */
export async function readRecord(dir: InstanceDir): Promise<InstanceRecord | undefined> {
  try {
    const parsed = instanceRecord.safeParse(JSON.parse(await readFile(fileOf(dir), "utf8")));
    return parsed.success ? parsed.data : undefined;
  } catch (err) {
    if (errnoOf(err) === "ENOENT" || err instanceof SyntaxError) return undefined;
    throw err;
  }
}
