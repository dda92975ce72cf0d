import { readFile } from "node:fs/promises";
import { z } from "zod";
import { errnoOf, messageOf } from "../../lib/errors.ts";
import type { DriverFacts } from "../driver/driver.ts";
import { HostError } from "../host-client.ts";

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.number().int().nonnegative();

/** What a snapshot runs on: restored on anything else it would misbehave in ways that no check can see. */
const compatibility = z.object({
  vmmVersion: z.string(),
  machine: z.string(),
  cpu: z.string(),
  accelerator: z.enum(["kvm", "tcg"]),
});

const templateManifest = z.object({
  schema: z.literal(1),
  templateId: z.string(),
  createdAt: z.string(),
  compatibility,
  kernelVersion: z.string(),
  agentVersion: z.string(),
  shape: z.object({ memoryMib: count, vcpus: count }),
  diskBytes: count,
  /** What the workload listened on when the snapshot was taken; null when that is not known. */
  port: z.number().int().nullable(),
  /** Number of the last line that the workload wrote before the snapshot: clones' logs begin after it. */
  logSeq: count,
  memory: z.object({ sha256, dataBytes: count }),
  devices: z.object({ sha256, bytes: count }),
  disk: z.object({ sha256, dataBytes: count }),
});
export type TemplateManifest = z.infer<typeof templateManifest>;

const fileName = (pattern: RegExp) => z.string().regex(pattern);
const snapshotManifest = z.object({
  schema: z.literal(2),
  /** The microvm that it was taken of. */
  microvmId: z.string(),
  templateId: z.string(),
  createdAt: z.string(),
  compatibility,
  /** Number of the last line of the workload that had been collected: what continues from here goes on behind it. */
  logSeq: count,
  devices: z.object({ sha256, bytes: count }),
  /** Diffs against the template, oldest first: a page's newest one counts. */
  memory: z
    .array(
      z.object({
        file: fileName(/^memory-\d+\.diff$/),
        sha256,
        indexSha256: sha256,
        bytes: count,
        pages: count,
        livePages: count,
      }),
    )
    .min(1),
  /** Disk layers above the template's disk, oldest first. */
  layers: z.array(fileName(/^disk-\d+\.qcow2$/)),
});
export type SnapshotManifest = z.infer<typeof snapshotManifest>;

export const compatibilityOf = (facts: DriverFacts): TemplateManifest["compatibility"] => ({
  vmmVersion: facts.vmmVersion,
  machine: facts.machine,
  cpu: facts.cpu,
  accelerator: facts.accelerator,
});

/** @throws HostError `not_found`, `corrupt` */
export const readTemplateManifest = (path: string): Promise<TemplateManifest> => read(path, templateManifest);
/** @throws HostError `not_found`, `corrupt` */
export const readSnapshotManifest = (path: string): Promise<SnapshotManifest> => read(path, snapshotManifest);

/** @throws HostError `incompatible` saying what differs */
export function checkCompatible(what: string, pinned: TemplateManifest["compatibility"], facts: DriverFacts): void {
  const here = compatibilityOf(facts);
  const differ = (Object.keys(here) as (keyof typeof here)[]).filter((k) => here[k] !== pinned[k]);
  if (differ.length === 0) return;
  const list = differ.map((k) => `${k} ${pinned[k]}, here ${here[k]}`).join("; ");
  throw new HostError("incompatible", `${what} cannot be restored on this host: it was made with ${list}`);
}

async function read<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (err) {
    if (errnoOf(err) === "ENOENT") throw new HostError("not_found", `${path} does not exist`, { cause: err });
    throw err;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (err) {
    throw new HostError("corrupt", `${path} is damaged: ${messageOf(err)}`, { cause: err });
  }
}
