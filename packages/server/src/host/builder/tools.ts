import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { messageOf, TorporError } from "../../lib/errors.ts";
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
  const toolchain = await load(dir, "toolchain.json", toolchainFile);
  const helper = helperBinary || join(dir, (await load(dir, "helper.json", helperFile)).path);
  const names = (await readdir(dir)).filter((name) => /^base-.*\.json$/.test(name)).sort();
  const bases = await Promise.all(names.map((name) => load(dir, name, baseFile)));
  return {
    helper,
    toolchain: join(dir, toolchain.path),
    buildahVersion: toolchain.buildah,
    bases: bases.map((base) => ({ ...base, path: join(dir, base.path) })),
  };
}

async function load<T>(dir: string, name: string, schema: z.ZodType<T>): Promise<T> {
  const path = join(dir, name);
  try {
    return schema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (err) {
    const mend = "run scripts/setup.sh, or set artifacts-dir to where it put them";
    throw new TorporError("unavailable", `cannot use ${path}: ${messageOf(err)}; ${mend}`, { cause: err });
  }
}

/** @throws TorporError `unavailable` when the tar is not the one that its manifest describes */
export async function verifyBase(base: BaseTar, signal: AbortSignal): Promise<void> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(base.path, { highWaterMark: 1 << 20 }), hash, { signal });
  const found = hash.digest("hex");
  if (found !== base.sha256)
    throw new TorporError("unavailable", `${base.path} has sha256 ${found}, not ${base.sha256}: run scripts/setup.sh`);
}
