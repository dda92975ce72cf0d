import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { TorporError } from "../../lib/errors.ts";
import { hashFile, readManifest } from "../artifacts.ts";
import type { BaseImage } from "./dockerfile.ts";

/** A base image as a tar of its files. */
export interface BaseTar extends BaseImage {
  readonly path: string;
  readonly sha256: string;
}

/** What image builds need of the artifacts, with absolute paths. */
export interface BuildTools {
  readonly helper: string;
  readonly toolchain: string;
  readonly buildahVersion: string;
  readonly bases: readonly BaseTar[];
}

const helperFile = z.object({ schema: z.literal(1), path: z.string() });
const toolchainFile = z.object({ schema: z.literal(1), path: z.string(), buildah: z.string() });
const baseFile = z.object({
  schema: z.literal(1),
  name: z.string(),
  os: z.string(),
  path: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  references: z.array(z.string()).min(1),
});

/**
 * Reads what scripts/artifacts made for builds.
 * @throws TorporError `unavailable` naming the file that is missing or is not what it should be
 */
export async function loadBuildTools(dir: string, helperBinary: string): Promise<BuildTools> {
  const toolchain = await readManifest(dir, "toolchain.json", toolchainFile);
  const helper = helperBinary || join(dir, (await readManifest(dir, "helper.json", helperFile)).path);
  const names = (await readdir(dir)).filter((name) => /^base-.*\.json$/.test(name)).sort();
  const bases = await Promise.all(names.map((name) => readManifest(dir, name, baseFile)));
  return {
    helper,
    toolchain: join(dir, toolchain.path),
    buildahVersion: toolchain.buildah,
    bases: bases.map((base) => ({ ...base, path: join(dir, base.path) })),
  };
}

/** @throws TorporError `unavailable` when the tar is not the one that its manifest describes */
export async function verifyBase(base: BaseTar, signal: AbortSignal): Promise<void> {
  const found = await hashFile(base.path, signal);
  if (found !== base.sha256)
    throw new TorporError("unavailable", `${base.path} has sha256 ${found}, not ${base.sha256}: run scripts/setup.sh`);
}
