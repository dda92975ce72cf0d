import { randomBytes } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errnoOf } from "../../lib/errors.ts";
import type { InstanceDir } from "../layout.ts";
import { egressPolicy } from "../network/egress.ts";

/**
 * Where an instance stands; one that is being launched has no record, and is undone after a crash of the daemon. The
 * phase decides what that means for the others: `running`: a live VMM is the truth, a dead one the end; `suspended`:
 * its newest snapshot is the truth. A snapshot that is newer than the record is the truth in every phase: it appears, durable and whole, in
 * the moment in which the instance is suspended. So the record itself need not be durable: what it says of running
 * VMMs is void after a crash of the machine.
 */
const instanceRecord = z.object({
  schema: z.literal(2),
  microvmId: z.string(),
  templateId: z.string(),
  phase: z.enum(["running", "suspended"]),
  /** Its VMM and the slot of that, while it has one. */
  vmm: z.object({ id: z.string().regex(/^vmm-[0-9a-f]{16}$/), slot: z.number().int() }).nullable(),
  /** What the guest may reach, in whatever slot it is; absent: public addresses. */
  egress: egressPolicy.exactOptional(),
  /** A resume has not got so far that its guest has an identity again. */
  resuming: z.boolean().default(false),
  /** Number of the snapshot that it continued from or is suspended at; 0 before the first. */
  snapshot: z.number().int().nonnegative(),
  /** Number of the disk layer that the VMM writes, those below it being sealed; 0 without a VMM. */
  layer: z.number().int().nonnegative(),
});
export type InstanceRecord = z.infer<typeof instanceRecord>;

const fileOf = (dir: InstanceDir): string => join(dir.path, "instance.json");

/** The record appears whole or not at all. */
export async function writeRecord(dir: InstanceDir, record: InstanceRecord): Promise<void> {
  const temporary = `${fileOf(dir)}.${randomBytes(6).toString("hex")}.tmp`;
  await writeFile(temporary, JSON.stringify(record), { flag: "wx", mode: 0o600 });
  await rename(temporary, fileOf(dir));
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
