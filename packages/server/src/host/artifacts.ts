import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { messageOf, TorporError } from "../lib/errors.ts";

/** What scripts/setup.sh makes: each kind describes itself in a JSON file beside the others. */
export interface GuestArtifacts {
  readonly kernel: { readonly version: string; readonly path: string; readonly sha256: string };
  readonly initramfs: { readonly agentVersion: string; readonly path: string; readonly sha256: string };
  readonly helper: { readonly version: string; readonly path: string; readonly sha256: string };
}

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const kernelFile = z.object({ schema: z.literal(1), version: z.string(), path: z.string(), sha256 });
const initramfsFile = z.object({ schema: z.literal(1), agentVersion: z.string(), path: z.string(), sha256 });
const helperFile = z.object({ schema: z.literal(1), version: z.string(), path: z.string(), sha256 });

/**
 * Reads and checks the artifacts that every guest is made of.
 * @throws TorporError `unavailable` naming the file that is missing or is not what it should be
 */
export async function loadGuestArtifacts(dir: string, helperBinary: string): Promise<GuestArtifacts> {
  const [kernel, initramfs] = await Promise.all([
    load(dir, "kernel.json", kernelFile),
    load(dir, "initramfs.json", initramfsFile),
  ]);
  const helper =
    helperBinary === ""
      ? await load(dir, "helper.json", helperFile)
      : { version: "custom", path: helperBinary, sha256: await hashFile(helperBinary) };
  return { kernel, initramfs, helper };
}

const MEND = "run scripts/setup.sh, or set artifacts-dir to where it put them";

/** @throws TorporError `unavailable` naming the file and how to get it */
export async function readManifest<T>(dir: string, name: string, schema: z.ZodType<T>): Promise<T> {
  const path = join(dir, name);
  try {
    return schema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (err) {
    throw new TorporError("unavailable", `cannot use ${path}: ${messageOf(err)}; ${MEND}`, { cause: err });
  }
}

async function load<T extends { readonly path: string; readonly sha256: string }>(
  dir: string,
  name: string,
  schema: z.ZodType<T>,
): Promise<T> {
  const described = await readManifest(dir, name, schema);
  const path = join(dir, described.path);
  const found = await hashFile(path).catch((err: unknown) => {
    throw new TorporError("unavailable", `cannot read ${path}: ${messageOf(err)}; ${MEND}`, { cause: err });
  });
  if (found !== described.sha256)
    throw new TorporError("unavailable", `${path} is not what ${name} says: its sha256 is ${found}; ${MEND}`);
  return { ...described, path };
}

export async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash, { ...(signal && { signal }) });
  return hash.digest("hex");
}
