import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Cleanup } from "../../lib/cleanup.ts";
import { messageOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { run } from "../../lib/run.ts";
import { Stopwatch } from "../../lib/stopwatch.ts";
import { printable } from "../../lib/text.ts";
import { Agent } from "../agent/agent.ts";
import { AgentError } from "../agent/connection.ts";
import { giveCredentials } from "../agent/credentials.ts";
import { freezeWorkload } from "../agent/freeze.ts";
import { assumeIdentity } from "../agent/identity.ts";
import type { GuestArtifacts } from "../artifacts.ts";
import type { Builder } from "../builder/builder.ts";
import type { ContainerConfig } from "../builder/container-config.ts";
import { requireSpace } from "../disk-space.ts";
import type { Driver, MachineShape, Slot, Vmm, VmmDir } from "../driver/driver.ts";
import {
  BuildError,
  type BuildObserver,
  type HookFailure,
  HostError,
  type Template,
  type TemplateSpec,
} from "../host-client.ts";
import { type HostLayout, resetRunDir } from "../layout.ts";
import type { Slots } from "../network/slot-pool.ts";
import { compatibilityOf } from "../snapshot/manifest.ts";
import { keepDevices } from "../snapshot/snapshot.ts";
import type { Cells } from "../supply/cell.ts";
import { machineShape } from "./size.ts";
import type { TemplateStore } from "./template-store.ts";

export interface TemplateBuilderDeps {
  readonly layout: HostLayout;
  readonly driver: Driver;
  readonly cells: Cells;
  readonly slots: Pick<Slots, "resolvConf">;
  readonly templates: TemplateStore;
  readonly builder: Builder;
  readonly artifacts: GuestArtifacts;
  readonly burst: number;
  /** Dockerfile steps see the network as a microvm does, through the slot that the guest boots in afterwards. */
  readonly buildInSlot: boolean;
  readonly readyGraceMs: number;
  readonly reservedDiskMib: number;
  readonly log: Log;
}

/** A boot that has not reached the agent by now has hung: the watchdog starts another. */
const BOOT_MS = 60_000;
const BOOT_ATTEMPTS = 3;
/** Pause between calls of a hook that said "not yet". */
const NOT_YET_MS = 500;
/** What a workload listens on when its Dockerfile does not say. */
const DEFAULT_PORT = 8080;

/** Artifact → container → root filesystem → booted → ready → template. */
export class TemplateBuilder {
  readonly #deps: TemplateBuilderDeps;

  constructor(deps: TemplateBuilderDeps) {
    this.#deps = deps;
  }

  /** @throws BuildError for what the user can mend; anything else is ours */
  async build(spec: TemplateSpec, observer: BuildObserver, signal: AbortSignal): Promise<Template> {
    const { layout, driver, cells, slots, templates, log } = this.#deps;
    const watch = new Stopwatch("build");
    const size = machineShape(spec.memoryMib, this.#deps.burst, driver.facts.accelerator);
    // What a small image takes; a large one that fills the disk is stopped by ENOSPC and leaves nothing.
    await this.#requireSpace(512 * 2 ** 20 + (size.memoryMib * 2 ** 20) / 4);
    await using undo = new Cleanup(log);
    const cell = await cells.create(spec.memoryMib);
    undo.add("cell", () => cells.remove(cell));
    await cells.open(cell, spec.egress);
    const { dir, slot } = cell;
    const disk = join(dir.disks, "disk.raw");
    const built = await this.#deps.builder.build(
      {
        buildId: spec.templateId,
        accountId: spec.accountId,
        artifactPath: spec.artifactPath,
        diskGib: size.diskGib,
        outputPath: disk,
        environment: spec.environment,
        ...(this.#deps.buildInSlot && { slot: { netns: slot.netns, resolvConf: slots.resolvConf } }),
      },
      observer,
      signal,
    );
    watch.include(built.receipt);

    observer.phase("boot");
    await chown(disk, slot.uid, slot.uid);
    const vmm = await this.#boot(dir, size, slot, disk, observer, signal);
    undo.add("vmm", () => vmm.kill());
    const agent = new Agent(slot.address, vmm.ended);
    await assumeIdentity(agent, spec.templateId, randomBytes(16), signal);
    if (spec.credentials) await giveCredentials(agent, spec.credentials, signal);
    watch.mark("boot");

    const output = new BuildOutput(agent, observer, signal);
    undo.add("output", () => output.stop());
    observer.phase("ready");
    await this.#start(agent, built.container, spec, signal);
    const port = await Promise.race([
      this.#ready(agent, spec, built.container, output, observer, signal),
      output.failure(vmm),
    ]);
    watch.mark("ready");

    observer.phase("snapshot");
    if (spec.credentials) await giveCredentials(agent, "", signal);
    await agent.quiesce({ dropCaches: true }, signal);
    const logSeq = await output.stop();
    await freezeWorkload(agent, vmm, log, signal);
    await vmm.pause();
    const folder = `${layout.template(spec.templateId).path}.tmp`;
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { mode: 0o755 });
    undo.add("template", () => rm(folder, { recursive: true, force: true }));
    const devices = await keepDevices(await vmm.saveDevices(), join(folder, "devices"));
    await vmm.kill();
    const memory = await this.#keep(join(dir.run, "memory"), join(folder, "memory"));
    const root = await this.#keep(disk, join(folder, "disk.raw"));
    await chmod(join(folder, "devices"), 0o444);
    watch.bytesWritten = memory.dataBytes + root.dataBytes + devices.bytes;
    await templates.add(spec.templateId, folder, {
      schema: 1,
      templateId: spec.templateId,
      createdAt: new Date().toISOString(),
      compatibility: compatibilityOf(driver.facts),
      kernelVersion: this.#deps.artifacts.kernel.version,
      agentVersion: this.#deps.artifacts.initramfs.agentVersion,
      shape: { memoryMib: size.memoryMib, vcpus: size.vcpus },
      baselineMib: spec.memoryMib,
      ...(spec.egress && { egress: spec.egress }),
      diskBytes: size.diskGib * 2 ** 30,
      port,
      logSeq,
      memory,
      devices,
      disk: root,
    });
    watch.mark("snapshot");
    return {
      templateId: spec.templateId,
      memorySnapshotBytes: memory.dataBytes + devices.bytes,
      codeInstallBytes: built.rootfsBytes,
      diskSnapshotBytes: root.dataBytes,
      receipt: watch.receipt(),
    };
  }

  /** @throws BuildError */
  async #requireSpace(bytes: number): Promise<void> {
    try {
      await requireSpace(this.#deps.layout.templates, bytes, this.#deps.reservedDiskMib, "an image build");
    } catch (err) {
      if (err instanceof HostError && err.reason === "no_space")
        throw new BuildError("DISK_STORAGE_FULL", `DISK_STORAGE_FULL: ${err.message}`, { cause: err });
      throw err;
    }
  }

  /** Cold boot with a watchdog: a guest that hangs before its agent runs is started again. */
  async #boot(
    dir: VmmDir,
    shape: MachineShape,
    slot: Slot,
    disk: string,
    observer: BuildObserver,
    signal: AbortSignal,
  ): Promise<Vmm> {
    const { driver, artifacts, log } = this.#deps;
    for (let attempt = 1; ; attempt++) {
      await resetRunDir(dir, slot.uid);
      const { memoryMib, vcpus } = shape;
      const vmm = await driver.boot(
        {
          dir,
          shape: { memoryMib, vcpus },
          slot,
          disk,
          kernel: artifacts.kernel.path,
          initramfs: artifacts.initramfs.path,
        },
        signal,
      );
      try {
        const hello = new Agent(slot.address).hello(signal, BOOT_MS);
        const died = vmm.ended.then((detail) => {
          throw new Error(detail);
        });
        await Promise.race([hello, died]);
        return vmm;
      } catch (err) {
        await vmm.kill();
        signal.throwIfAborted();
        log.warn({ err, attempt }, "guest did not boot");
        await this.#requireSpace(0); // its memory is a file: on a full disk it dies of SIGBUS
        if (attempt === BOOT_ATTEMPTS)
          throw new BuildError(
            "INTERNAL_PLATFORM_ERROR",
            `INTERNAL_PLATFORM_ERROR: the guest did not boot in ${BOOT_ATTEMPTS} attempts: ${messageOf(err)}`,
            { cause: err },
          );
        observer.log(`The guest did not boot (attempt ${attempt}); starting it again.\n`);
      }
    }
  }

  async #start(agent: Agent, container: ContainerConfig, spec: TemplateSpec, signal: AbortSignal): Promise<void> {
    try {
      await agent.start(
        {
          argv: container.argv,
          env: container.env,
          user: container.user,
          workdir: container.workdir,
          capabilities: spec.capabilities,
          hostname: "localhost",
        },
        signal,
      );
    } catch (err) {
      if (!(err instanceof AgentError)) throw err;
      throw new BuildError(null, `The container could not be started: ${printable(err.message)}`, { cause: err });
    }
  }

  /**
   * @returns the port that the workload listens on, if that is known
   * @throws BuildError with the service's sentence when the workload does not get ready
   */
  async #ready(
    agent: Agent,
    spec: TemplateSpec,
    container: ContainerConfig,
    output: BuildOutput,
    observer: BuildObserver,
    signal: AbortSignal,
  ): Promise<number | null> {
    const ports = container.exposedPorts.length > 0 ? container.exposedPorts : [DEFAULT_PORT];
    if (spec.ready) await callUntilReady(agent, "ready", spec.ready, signal);
    const result = await agent.listening(ports, spec.ready ? 0 : this.#deps.readyGraceMs, signal);
    if ("exitCode" in result) throw output.exitError(result.exitCode);
    if (result.port !== null) observer.log(`The workload listens on port ${result.port}.\n`);
    else if (!spec.ready)
      observer.log(
        `Nothing listens on port ${ports.join(", ")} after ${this.#deps.readyGraceMs / 1000} s and there is no ready hook: the snapshot is taken now.\n`,
      );
    return result.port;
  }

  /** Ours and read-only from here on, as sparse as it can be, durable. */
  async #keep(from: string, to: string): Promise<{ sha256: string; dataBytes: number }> {
    const { nlink } = await stat(from);
    if (nlink !== 1) throw new Error(`${from} has ${nlink} names`);
    await rename(from, to);
    await chown(to, process.getuid!(), process.getgid!());
    const sealed = JSON.parse(await run(this.#deps.artifacts.helper.path, ["seal", to])) as {
      sha256: string;
      dataBytes: number;
    };
    await chmod(to, 0o444);
    return sealed;
  }
}

/**
 * Calls a build hook until it answers 200. Refused and 503 mean "not yet"; every other answer is the end.
 * @throws BuildError
 */
export async function callUntilReady(
  agent: Agent,
  name: "ready" | "validate",
  call: { readonly port: number; readonly timeoutMs: number },
  signal: AbortSignal,
): Promise<void> {
  const title = name === "ready" ? "Ready" : "Validate";
  const until = performance.now() + call.timeoutMs;
  for (;;) {
    const left = until - performance.now();
    if (left <= 0) throw timedOut(title, call.timeoutMs);
    const request = { port: call.port, timeoutMs: Math.ceil(left), body: null, host: `localhost:${call.port}` };
    const failure = await agent.hook(name, request, signal);
    if (!failure) return;
    const error = finalError(title, failure);
    if (error) throw error;
    await new Promise((resolve) => setTimeout(resolve, Math.min(NOT_YET_MS, Math.max(0, until - performance.now()))));
  }
}

function finalError(title: string, failure: HookFailure): BuildError | undefined {
  if (failure.kind !== "status" || failure.status === 503) return undefined;
  const kind =
    failure.status >= 500
      ? "a server error (HTTP 5xx)"
      : failure.status >= 400
        ? "a client error (HTTP 4xx)"
        : `an unexpected (HTTP ${failure.status})`;
  return new BuildError(null, `${title} hook check failed: the application returned ${kind} response`);
}

const timedOut = (title: string, timeoutMs: number): BuildError =>
  new BuildError(null, `${title} hook invocation timed out after ${isoDuration(timeoutMs)}`);

/** ISO 8601 as the service writes it: `PT30S`, `PT10M`, `PT1H`. */
function isoDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  const text = `${h ? `${h}H` : ""}${m ? `${m}M` : ""}${s ? `${s}S` : ""}`;
  return `PT${text || "0S"}`;
}

/** The workload's output while its image is built: into the build log, and the reason when it ends too soon. */
class BuildOutput {
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  readonly #exit = Promise.withResolvers<number>();
  #lastSeq = 0;
  #lastLines: string[] = [];

  constructor(agent: Agent, observer: BuildObserver, signal: AbortSignal) {
    this.#done = this.#collect(agent, observer, AbortSignal.any([signal, this.#stop.signal]));
  }

  /** @returns the number of the last event seen */
  async stop(): Promise<number> {
    this.#stop.abort();
    await this.#done;
    return this.#lastSeq;
  }

  /** Never resolves: rejects when the workload or its VMM ends. */
  async failure(vmm: Vmm): Promise<never> {
    const exitCode = await Promise.race([
      this.#exit.promise,
      vmm.ended.then((detail) => {
        throw new BuildError("INTERNAL_PLATFORM_ERROR", `INTERNAL_PLATFORM_ERROR: ${detail}`);
      }),
    ]);
    throw this.exitError(exitCode);
  }

  exitError(exitCode: number): BuildError {
    const said = this.#lastLines.length > 0 ? ` Its last lines: ${this.#lastLines.join(" | ")}` : "";
    return new BuildError(null, `Container Stopped with Exit Code: ${exitCode}.${said}`);
  }

  async #collect(agent: Agent, observer: BuildObserver, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const event of agent.watch(this.#lastSeq, signal)) {
          this.#lastSeq = event.seq;
          if (event.kind === "exit") this.#exit.resolve(event.exitCode ?? 0);
          if (event.kind !== "stdout" && event.kind !== "stderr") continue;
          const line = printable(event.text ?? "");
          this.#lastLines = [...this.#lastLines.slice(-4), line];
          observer.log(`[app] ${line}\n`);
        }
      } catch {
        // Interrupted: the signal says whether that is the end.
      }
    }
  }
}
