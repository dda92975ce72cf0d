import { createHash } from "node:crypto";
import { lstat, mkdir, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import { join, resolve } from "node:path";
import type { Receipt } from "@torpor/protocol";
import type { Config } from "../../config.ts";
import { Cleanup } from "../../lib/cleanup.ts";
import { errnoOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { run } from "../../lib/run.ts";
import { Stopwatch } from "../../lib/stopwatch.ts";
import type { BuildObserver } from "../host-client.ts";
import { AccountStore, wasInterrupted } from "./account-store.ts";
import { BaseStore } from "./base-store.ts";
import { archiveInvalid, buildFailed, diskFull, isNoSpace } from "./build-error.ts";
import { explainFailure, StepTracker } from "./build-failure.ts";
import { BuildLog } from "./build-log.ts";
import { BuildQueue } from "./build-queue.ts";
import { buildImage, IN_JAIL, makeFilesystem } from "./buildah.ts";
import { type ContainerConfig, readContainerConfig } from "./container-config.ts";
import { DiskGuard, requireFree } from "./disk-guard.ts";
import { type CheckedDockerfile, checkDockerfile } from "./dockerfile.ts";
import { makeOutput, placeFilesystem, readOutput } from "./filesystem.ts";
import { type JailEnd, type JailNetwork, type JailRequest, runInJail } from "./jail.ts";
import { type BuildTools, loadBuildTools } from "./tools.ts";
import { unpackArchive } from "./unpack.ts";

export interface BuildRequest {
  /** Names the build on this host; letters, digits, `-` and `_`. */
  readonly buildId: string;
  readonly accountId: string;
  /** The zip. */
  readonly artifactPath: string;
  /** Size of the root file system, and of what the build may write beside it. */
  readonly diskGib: number;
  /** Where the ext4 file is to be; must not exist. */
  readonly outputPath: string;
  /** On top of the image's own variables, when it runs; build steps do not see it, so that their cache lives on. */
  readonly environment: Readonly<Record<string, string>>;
  /** A network namespace for the steps, instead of what the configuration says. */
  readonly slot?: { readonly netns: string; readonly resolvConf?: string };
}

export interface BuiltImage {
  readonly container: ContainerConfig;
  /** What the root file system takes up on the disk. */
  readonly rootfsBytes: number;
  /** Phases `unpack`, `container`, `filesystem`; reused: `layer cache`. */
  readonly receipt: Receipt;
}

export interface Builder {
  /**
   * Artifact → root file system and how to run it. When it throws, nothing of the build is left but cached layers.
   * @throws BuildError for what the image's author can mend, TorporError `unavailable` without artifacts, the abort's
   * reason
   */
  build(request: BuildRequest, observer: BuildObserver, signal: AbortSignal): Promise<BuiltImage>;
  /**
   * Ends and removes what builds of an earlier daemon left. To be called before the first build.
   * @throws TorporError `unavailable` when there were builds but the artifacts are gone
   */
  recover(): Promise<void>;
}

export interface BuilderLimits {
  /** Of all processes of a build together. */
  readonly memoryBytes: number;
  readonly pids: number;
  /** Size of an account's image store. */
  readonly storeBytes: number;
  readonly logBytes: number;
}

export interface BuilderOptions {
  readonly config: Pick<
    Config,
    | "dataDir"
    | "helperBinary"
    | "builderUidBase"
    | "maxConcurrentBuilds"
    | "buildTimeoutSeconds"
    | "buildNetwork"
    | "maxArtifactBytes"
    | "maxUnpackedBytes"
    | "reservedDiskMib"
  >;
  readonly artifactsDir: string;
  readonly log: Log;
  readonly limits?: Partial<BuilderLimits>;
}

const GIB = 2 ** 30;
const MAX_ENTRIES = 50_000;
const MAX_RATIO = 100;
/** Of what the jail says about an image. */
const OUTPUT_BYTES = 1 << 20;
const RECOVER_MS = 5 * 60_000;
const WORD = /^[A-Za-z0-9_-]{1,64}$/;
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

export function createBuilder(options: BuilderOptions): Builder {
  return new JailedBuilder(options);
}

class JailedBuilder implements Builder {
  readonly #config: BuilderOptions["config"];
  readonly #artifactsDir: string;
  readonly #log: Log;
  readonly #limits: BuilderLimits;
  readonly #folder: string;
  /** What the names of our jails begin with: other daemons of this host have theirs. */
  readonly #prefix: string;
  readonly #queue: BuildQueue;
  readonly #bases: BaseStore;

  constructor(options: BuilderOptions) {
    this.#config = options.config;
    this.#artifactsDir = options.artifactsDir;
    this.#log = options.log;
    this.#limits = {
      memoryBytes: Math.max(GIB, Math.min(4 * GIB, Math.floor(totalmem() / 2))),
      pids: 1024,
      storeBytes: 96 * GIB,
      logBytes: 4 << 20,
      ...options.limits,
    };
    this.#folder = resolve(options.config.dataDir, "build");
    this.#prefix = `${createHash("sha256").update(this.#folder).digest("hex").slice(0, 8)}-`;
    this.#queue = new BuildQueue(options.config.maxConcurrentBuilds);
    this.#bases = new BaseStore(
      join(this.#folder, "bases"),
      options.config.builderUidBase,
      async (name, request, onOutput, signal) => this.#jail(await this.#tools(), name, request, onOutput, signal),
    );
  }

  build(request: BuildRequest, observer: BuildObserver, signal: AbortSignal): Promise<BuiltImage> {
    for (const word of [request.buildId, request.accountId])
      if (!WORD.test(word)) throw new RangeError(`${JSON.stringify(word)} cannot name a build or an account`);
    return this.#queue.run(request.accountId, () => this.#build(request, observer, signal), signal);
  }

  async recover(): Promise<void> {
    const accounts = await readdir(this.#folder, { withFileTypes: true }).catch((err: unknown) => {
      if (errnoOf(err) === "ENOENT") return [];
      throw err;
    });
    if (accounts.length === 0) return;
    await rm(this.#work(), { recursive: true, force: true });
    const tools = await this.#tools();
    const signal = AbortSignal.timeout(RECOVER_MS);
    await run(tools.helper, ["jail-sweep", this.#prefix], { signal });
    await this.#bases.sweep(tools);
    for (const entry of accounts) {
      if (!entry.isDirectory() || ["bases", "work"].includes(entry.name)) continue;
      const folder = join(this.#folder, entry.name);
      for (const name of await readdir(folder))
        if (name.endsWith(".tmp")) await rm(join(folder, name), { force: true });
      if (!(await wasInterrupted(folder))) continue;
      const baseStore = await this.#bases.ready(tools, signal);
      await this.#store(tools, entry.name, `recover-${entry.name}`, baseStore).recover();
    }
  }

  async #build(request: BuildRequest, observer: BuildObserver, outer: AbortSignal): Promise<BuiltImage> {
    const timeout = AbortSignal.timeout(this.#config.buildTimeoutSeconds * 1000);
    const signal = AbortSignal.any([outer, timeout]);
    await using undo = new Cleanup(this.#log);
    try {
      const tools = await this.#tools();
      await mkdir(this.#work(), { recursive: true, mode: 0o700 });
      await requireFree(this.#folder, this.#reservedBytes());
      const work = this.#work(request.buildId);
      await mkdir(work, { mode: 0o700 });
      undo.add("work folder", () => rm(work, { recursive: true, force: true }));
      return await this.#buildIn(work, tools, request, observer, signal);
    } catch (err) {
      if (outer.aborted) throw outer.reason;
      if (timeout.aborted)
        throw buildFailed(`It took longer than ${this.#config.buildTimeoutSeconds} seconds.`, timeout.reason);
      if (isNoSpace(err)) throw diskFull("this host's disk is full", err);
      throw err;
    }
  }

  async #buildIn(
    work: string,
    tools: BuildTools,
    request: BuildRequest,
    observer: BuildObserver,
    outer: AbortSignal,
  ): Promise<BuiltImage> {
    const watch = new Stopwatch("build");
    observer.phase("unpack");
    const dockerfile = await this.#unpack(work, tools, request, watch, outer);
    watch.mark("unpack");

    observer.phase("container");
    const tracker = new StepTracker(dockerfile.stages);
    const log: BuildLog = new BuildLog({
      maxBytes: this.#limits.logBytes,
      write: (text) => observer.log(text),
      onLine: (line) => {
        if (tracker.line(line)) log.mark();
      },
    });
    for (const notice of dockerfile.notices) log.line(notice);
    if (!(await this.#bases.isReady(tools))) log.line("This host's base images are prepared. This happens once.");
    const baseStore = await this.#bases.ready(tools, outer);
    const store = this.#store(tools, request.accountId, request.buildId, baseStore);
    return store.use(async () => {
      await using guard = await DiskGuard.watch({
        store: store.image,
        maxGrowthBytes: request.diskGib * GIB,
        folder: this.#folder,
        reservedBytes: this.#reservedBytes(),
      });
      const signal = AbortSignal.any([outer, guard.signal]);
      const inJail = (name: string, jailRequest: JailRequest): Promise<JailEnd> =>
        this.#jail(tools, name, jailRequest, (chunk) => log.output(chunk), signal);

      const built = await inJail(
        request.buildId,
        store.request({
          argv: buildImage(await ignoreFile(work)),
          binds: [
            { source: join(work, "context"), target: IN_JAIL.artifact },
            { source: join(work, "Dockerfile"), target: IN_JAIL.dockerfile },
          ],
          network: this.#network(request),
          maxFileBytes: request.diskGib * GIB,
        }),
      );
      log.end();
      if (built.exitCode !== 0) throw explainFailure(tracker.step, log.tail(), built, this.#limits.memoryBytes);
      if (tracker.cached > 0) watch.reused("layer cache");
      watch.mark("container");

      observer.phase("filesystem");
      const outputs = [IN_JAIL.rootfs, IN_JAIL.inspect, IN_JAIL.passwd, IN_JAIL.group];
      const outside = (output: string): string => join(work, output.slice("/out/".length));
      for (const output of outputs) {
        const bytes = output === IN_JAIL.rootfs ? request.diskGib * GIB : 0;
        await makeOutput(outside(output), this.#config.builderUidBase, bytes);
      }
      log.mark();
      const made = await inJail(
        request.buildId,
        store.request({
          argv: makeFilesystem(request.diskGib),
          binds: outputs.map((output) => ({ source: outside(output), target: output, writable: true })),
          maxFileBytes: request.diskGib * GIB,
        }),
      );
      log.end();
      if (made.exitCode !== 0) throw filesystemFailure(log.tail(), request.diskGib);
      const container = readContainerConfig(
        (await readOutput(outside(IN_JAIL.inspect), OUTPUT_BYTES)) ?? "",
        {
          passwd: (await readOutput(outside(IN_JAIL.passwd), OUTPUT_BYTES)) ?? "",
          group: (await readOutput(outside(IN_JAIL.group), OUTPUT_BYTES)) ?? "",
        },
        request.environment,
      );
      const rootfsBytes = await placeFilesystem(outside(IN_JAIL.rootfs), request.outputPath, signal);
      watch.bytesWritten += rootfsBytes;
      watch.mark("filesystem");
      return { container, rootfsBytes, receipt: watch.receipt() };
    }, outer);
  }

  /** The artifact as a build context that belongs to the jail's root, and the Dockerfile that buildah gets. */
  async #unpack(
    work: string,
    tools: BuildTools,
    request: BuildRequest,
    watch: Stopwatch,
    signal: AbortSignal,
  ): Promise<CheckedDockerfile> {
    const { size } = await stat(request.artifactPath);
    if (size > this.#config.maxArtifactBytes)
      throw archiveInvalid(`the artifact is larger than ${this.#config.maxArtifactBytes} bytes`);
    watch.bytesRead += size;
    const uid = this.#config.builderUidBase;
    const context = join(work, "context");
    const unpacked = await unpackArchive(
      request.artifactPath,
      context,
      {
        owner: { uid, gid: uid },
        limits: { maxBytes: this.#config.maxUnpackedBytes, maxEntries: MAX_ENTRIES, maxRatio: MAX_RATIO },
      },
      signal,
    );
    watch.bytesWritten += unpacked.bytes;
    await using source = await open(join(context, "Dockerfile"), "r");
    const dockerfile = checkDockerfile(await source.readFile(), {
      bases: tools.bases,
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      network: this.#network(request).kind !== "none",
    });
    await writeFile(join(work, "Dockerfile"), dockerfile.text, { flag: "wx", mode: 0o644 });
    return dockerfile;
  }

  #store(tools: BuildTools, accountId: string, jailName: string, baseStore: string): AccountStore {
    return new AccountStore({
      folder: join(this.#folder, accountId),
      baseStore,
      uidBase: this.#config.builderUidBase,
      bytes: this.#limits.storeBytes,
      keptBytes: Math.floor(this.#limits.storeBytes / 4),
      run: (request, signal) => this.#jail(tools, jailName, request, () => {}, signal),
      log: this.#log,
    });
  }

  #jail(
    tools: BuildTools,
    name: string,
    request: JailRequest,
    onOutput: (chunk: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<JailEnd> {
    const limits = { ...this.#limits, uidBase: this.#config.builderUidBase };
    return runInJail(tools, this.#prefix + name, limits, request, onOutput, signal);
  }

  #network(request: BuildRequest): JailNetwork {
    const { slot } = request;
    if (!slot) return { kind: this.#config.buildNetwork === "host" ? "host" : "none" };
    return slot.resolvConf === undefined
      ? { kind: "netns", path: slot.netns }
      : { kind: "netns", path: slot.netns, resolvConf: slot.resolvConf };
  }

  #tools(): Promise<BuildTools> {
    return loadBuildTools(this.#artifactsDir, this.#config.helperBinary);
  }

  #reservedBytes(): number {
    return this.#config.reservedDiskMib * 2 ** 20;
  }

  #work(buildId = ""): string {
    return join(this.#folder, "work", buildId);
  }
}

/** `Dockerfile.dockerignore` wins over `.dockerignore`, which buildah finds by itself. */
async function ignoreFile(work: string): Promise<string | undefined> {
  const name = "Dockerfile.dockerignore";
  const found = await lstat(join(work, "context", name)).catch(() => undefined);
  return found?.isFile() ? name : undefined;
}

function filesystemFailure(tail: readonly string[], diskGib: number): Error {
  const said = tail.join("\n");
  if (/could not allocate|no space left|file too large|no free space/i.test(said))
    return diskFull(`the image does not fit on a disk of ${diskGib} GiB`);
  return new Error(`making the root file system failed: ${said}`);
}
