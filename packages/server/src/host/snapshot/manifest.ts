import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { errnoOf, messageOf } from "../../lib/errors.ts";
import type { DriverFacts } from "../driver/driver.ts";
import { HostError } from "../host-client.ts";
import { egressPolicy } from "../network/egress.ts";

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
  /** Memory without the burst; templates of earlier versions do not say. */
  baselineMib: count.exactOptional(),
  /** What its build could reach; absent: public addresses. */
  egress: egressPolicy.exactOptional(),
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
const SNAPSHOT_SCHEMA = 3;
const snapshotManifest = z.object({
  schema: z.literal(SNAPSHOT_SCHEMA),
  /** The microvm that has it: a fork's first one is the fork's, whoever it was taken of. */
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
  layers: z.array(
    z.object({
      file: fileName(/^disk-\d+\.qcow2$/),
      bytes: count,
      /** Null when it was not known yet: to read a layer takes longer than a suspend. The verification has it then. */
      sha256: sha256.nullable(),
      /** Which file it was, and when its contents were written last (nanoseconds since the epoch): numbers as text. */
      inode: z.string(),
      changed: z.string(),
    }),
  ),
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

/** As it is written: with a digest of itself, so that a change of one letter is noticed. */
export const snapshotManifestText = (manifest: SnapshotManifest): string =>
  JSON.stringify({ ...manifest, sha256: digestOf(manifest) });

/**
 * What its file says, or what is wrong with that.
 * @throws HostError `incompatible` when another version of Torpor wrote it
 */
export function parseSnapshotManifest(text: string): SnapshotManifest | { readonly damage: string } {
  let whole: Record<string, unknown>;
  try {
    whole = z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    return { damage: "is no JSON object" };
  }
  const { sha256: said, ...manifest } = whole;
  // Those of other versions may have none.
  const other = typeof manifest.schema === "number" && manifest.schema !== SNAPSHOT_SCHEMA;
  if (said === undefined ? !other : said !== digestOf(manifest))
    return { damage: "does not have the digest that it says" };
  if (other)
    throw new HostError(
      "incompatible",
      `another version of Torpor wrote it: its manifest has schema ${String(manifest.schema)}, not ${SNAPSHOT_SCHEMA}`,
    );
  const parsed = snapshotManifest.safeParse(manifest);
  return parsed.success ? parsed.data : { damage: `makes no sense: ${messageOf(parsed.error)}` };
}

const digestOf = (manifest: object): string => createHash("sha256").update(JSON.stringify(manifest)).digest("hex");

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
