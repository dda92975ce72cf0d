import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { access, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { loadConfig } from "../../src/config.ts";
import { type Builder, type BuilderLimits, type BuiltImage, createBuilder } from "../../src/host/builder/builder.ts";
import { loadBuildTools } from "../../src/host/builder/tools.ts";
import { messageOf } from "../../src/lib/errors.ts";
import { createLog } from "../../src/lib/log.ts";
import { zipOf } from "./zip-bytes.ts";

const exec = promisify(execFile);
export const defaults = loadConfig().config;

/** Why no real build can run here; undefined when one can. */
export async function whyNoBuilds(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "real image builds need root";
  try {
    await loadBuildTools(defaults.artifactsDir, defaults.helperBinary);
  } catch (err) {
    return messageOf(err);
  }
  return undefined;
}

export interface Attempt {
  readonly image: BuiltImage;
  /** The root file system. */
  readonly disk: string;
  readonly log: string;
  readonly phases: readonly string[];
}

export interface AttemptOptions {
  readonly account?: string;
  readonly diskGib?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly slot?: { readonly netns: string };
  readonly signal?: AbortSignal;
  /** Called with the log so far, on each piece of it. */
  readonly onLog?: (log: string) => void;
}

/** A data folder with builders on it, and a look at what they leave on the host. */
export class Workshop implements AsyncDisposable {
  readonly dataDir: string;
  #builds = 0;

  private constructor(dataDir: string) {
    this.dataDir = dataDir;
  }

  static async open(): Promise<Workshop> {
    return new Workshop(await mkdtemp(join(tmpdir(), "torpor-build-")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dataDir, { recursive: true, force: true });
  }

  builder(limits: Partial<BuilderLimits> = {}, config: Partial<typeof defaults> = {}): Builder {
    return createBuilder({
      config: { ...defaults, dataDir: this.dataDir, ...config },
      artifactsDir: defaults.artifactsDir,
      log: createLog("silent"),
      limits: { memoryBytes: 1 << 30, pids: 256, ...limits },
    });
  }

  async attempt(
    builder: Builder,
    files: Readonly<Record<string, string | Buffer>> | Buffer,
    options: AttemptOptions = {},
  ): Promise<Attempt> {
    const buildId = `test-${process.pid}-${++this.#builds}`;
    const artifactPath = join(this.dataDir, `${buildId}.zip`);
    await writeFile(artifactPath, Buffer.isBuffer(files) ? files : zipOf(files));
    const disk = join(this.dataDir, `${buildId}.ext4`);
    const phases: string[] = [];
    let log = "";
    const image = await builder.build(
      {
        buildId,
        accountId: options.account ?? "000000000000",
        artifactPath,
        diskGib: options.diskGib ?? 8,
        outputPath: disk,
        environment: options.environment ?? {},
        ...(options.slot ? { slot: options.slot } : {}),
      },
      {
        log: (text) => {
          log += text;
          options.onLog?.(log);
        },
        phase: (name) => phases.push(name),
      },
      options.signal ?? new AbortController().signal,
    );
    return { image, disk, log, phases };
  }

  /** What builds left outside their stores: processes, cgroups, loop devices, mounts, working folders. */
  async leftovers(): Promise<string[]> {
    const left: string[] = [];
    for (const controller of ["memory", "pids", "."])
      for (const name of await list(join("/sys/fs/cgroup", controller, "torpor-build")))
        if (name.startsWith(jailPrefix(this.dataDir))) left.push(`cgroup ${controller}/${name}`);
    for (const name of await list("/sys/block")) {
      const backing = await readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "");
      if (backing.includes(this.dataDir)) left.push(`loop device ${backing.trim()}`);
    }
    for (const line of (await readFile("/proc/mounts", "utf8")).split("\n"))
      if (line.includes(this.dataDir)) left.push(`mount ${line}`);
    for (const pid of await list("/proc")) {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (command.includes(this.dataDir) && command.includes("jail")) left.push(`process ${pid}`);
    }
    for (const name of await list(join(this.dataDir, "build/work"))) left.push(`work folder ${name}`);
    for (const account of await list(join(this.dataDir, "build")))
      if ((await list(join(this.dataDir, "build", account))).includes("in-use")) left.push(`store in use ${account}`);
    return left;
  }
}

/** What the names of a data folder's jails begin with. */
export function jailPrefix(dataDir: string): string {
  return createHash("sha256").update(join(dataDir, "build")).digest("hex").slice(0, 8);
}

async function list(folder: string): Promise<string[]> {
  try {
    await access(folder);
    return await readdir(folder);
  } catch {
    return [];
  }
}

/** A file's content in an ext4 image, without mounting it. */
export async function readFrom(disk: string, path: string): Promise<string> {
  return (await exec("debugfs", ["-R", `cat ${path}`, disk])).stdout;
}

/** `mode uid gid` of a path in an ext4 image. */
export async function statFrom(disk: string, path: string): Promise<string> {
  const { stdout } = await exec("debugfs", ["-R", `stat ${path}`, disk]);
  const mode = /Mode: +(\d+)/.exec(stdout)?.[1];
  const [, uid, gid] = /User: +(\d+) +Group: +(\d+)/.exec(stdout) ?? [];
  return `${mode} ${uid} ${gid}`;
}

/** Fails on a damaged file system; @returns its groups, as dumpe2fs lists them */
export async function checkFilesystem(disk: string): Promise<string> {
  await exec("e2fsck", ["-fn", disk]);
  return (await exec("dumpe2fs", [disk], { maxBuffer: 1 << 24 })).stdout.match(/^Group \d+:.*$/gm)?.join("\n") ?? "";
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}
