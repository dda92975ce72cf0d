import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "../../packages/server/src/host/agent/agent.ts";
import { assumeIdentity } from "../../packages/server/src/host/agent/identity.ts";
import type { MachineShape, Slot } from "../../packages/server/src/host/driver/driver.ts";
import {
  bootArguments,
  DISK_DEVICE,
  diskChain,
  INCOMING_ARGUMENTS,
  JAIL,
  machineArguments,
  nodeOf,
} from "../../packages/server/src/host/driver/qemu/arguments.ts";
import { GuestMemory } from "../../packages/server/src/host/driver/qemu/guest-memory.ts";
import { loadDevices } from "../../packages/server/src/host/driver/qemu/prepared.ts";
import { emptyQcow2 } from "../../packages/server/src/host/driver/qemu/qcow2.ts";
import { Qmp } from "../../packages/server/src/host/driver/qemu/qmp.ts";
import { createLog } from "../../packages/server/src/lib/log.ts";
import { get } from "../lab/http.ts";
import type { Template } from "../lab/server.ts";
import { type RawHost, WORKLOAD_PORT } from "./raw-host.ts";

const CLOCK_TICK_MS = 10;
/** A SYN that the guest is not there to see is repeated after a second only: better to begin anew, as the server does. */
const ATTEMPT_MS = 250;
const RETRY_MS = 10;

export interface RawVmmSpec {
  readonly qemu: string;
  readonly helper: string;
  readonly accelerator: "kvm" | "tcg";
  readonly template: Template;
}

/** What a raw suspend leaves behind: a point that can be restored again and again. */
export interface RawSnapshot {
  readonly devices: string;
  readonly memory: { readonly path: string; readonly indexSha256: string };
  readonly layers: readonly string[];
  readonly bytes: number;
}

/**
 * One QEMU process with the very arguments that the server uses, and nothing around it: no jail, no record, no agent.
 * What it takes is what QEMU, the kernel and the guest take.
 */
export class RawVmm implements AsyncDisposable {
  readonly #host: RawHost;
  readonly #spec: RawVmmSpec;
  readonly #slot: Slot;
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly qmp: Qmp;
  readonly #disks: readonly string[];

  private constructor(parts: {
    host: RawHost;
    spec: RawVmmSpec;
    slot: Slot;
    folder: string;
    child: ChildProcess;
    qmp: Qmp;
    disks: readonly string[];
  }) {
    this.#host = parts.host;
    this.#spec = parts.spec;
    this.#slot = parts.slot;
    this.#folder = parts.folder;
    this.#child = parts.child;
    this.qmp = parts.qmp;
    this.#disks = parts.disks;
  }

  /** A process that holds the template's memory or the snapshot's, and waits for its devices. */
  static async spawn(host: RawHost, spec: RawVmmSpec, slot: Slot, snapshot?: RawSnapshot): Promise<RawVmm> {
    const folder = await host.newFolder();
    const { files, manifest } = spec.template;
    const active = join(folder, `disk-${snapshot ? snapshot.layers.length + 1 : 1}.qcow2`);
    await writeFile(active, emptyQcow2(manifest.diskBytes));
    const layers = snapshot?.layers ?? [];
    const memory = { path: files.memory, mode: "private" } as const;
    const { accelerator } = spec;
    const disk = { bytes: manifest.diskBytes };
    const args = machineArguments({ id: "bench-floor", accelerator, shape: manifest.shape, memory, disk });
    const parts = await start(folder, spec.qemu, slot, [...args, ...INCOMING_ARGUMENTS]);
    await parts.qmp.execute("blockdev-add", { ...diskChain(files.disk, layers, active) });
    await parts.qmp.execute("qom-set", { path: DISK_DEVICE, property: "drive", value: nodeOf(active) });
    return new RawVmm({ host, spec, slot, folder, ...parts, disks: [...layers, active] });
  }

  /** A process about to boot the kernel from the given disk, which it writes. */
  static async spawnBoot(
    host: RawHost,
    spec: RawVmmSpec,
    slot: Slot,
    boot: { readonly kernel: string; readonly initramfs: string; readonly tscKhz: number; readonly disk: string },
  ): Promise<RawVmm> {
    const folder = await host.newFolder();
    const memory = join(folder, "memory");
    const shape: MachineShape = spec.template.manifest.shape;
    await writeFile(memory, "");
    const { accelerator } = spec;
    const args = machineArguments({
      id: "bench-floor",
      accelerator,
      shape,
      memory: { path: memory, mode: "shared" },
      disk: { path: boot.disk },
    });
    const parts = await start(folder, spec.qemu, slot, [...args, ...bootArguments(boot), "-S"]);
    return new RawVmm({ host, spec, slot, folder, ...parts, disks: [] });
  }

  get address(): string {
    return this.#slot.address;
  }

  /** Of a process that has not run: the snapshot's memory, written over the template's. */
  async loadMemory(snapshot: RawSnapshot): Promise<void> {
    await using memory = new GuestMemory(this.#spec.helper, createLog("silent"));
    const request = { pid: this.#child.pid ?? 0, template: this.#spec.template.files.memory, files: [snapshot.memory] };
    await memory.load(request, AbortSignal.timeout(30_000));
  }

  async loadDevices(snapshot?: RawSnapshot): Promise<void> {
    const capabilities = [{ capability: "events", state: true }];
    await this.qmp.execute("migrate-set-capabilities", { capabilities });
    await loadDevices(this.qmp, snapshot?.devices ?? this.#spec.template.files.devices);
  }

  async cont(): Promise<void> {
    await this.qmp.execute("cont");
  }

  /** A template's workload is frozen until the guest has an identity: without this it answers nobody. */
  async identify(): Promise<void> {
    const signal = AbortSignal.timeout(30_000);
    await assumeIdentity(new Agent(this.#slot.address), "microvm-floor", randomBytes(16), signal);
  }

  async stop(): Promise<void> {
    await this.qmp.execute("stop");
  }

  /** Straight to the workload's port, past agent, token and TLS. @throws Error when the answer is not 200 */
  async get(path = "/", timeoutMs = 30_000): Promise<void> {
    const url = new URL(`http://${this.#slot.address}:${WORKLOAD_PORT}`);
    const until = Date.now() + timeoutMs;
    for (;;) {
      try {
        const { status } = await get({ url, connectMs: ATTEMPT_MS }, path, timeoutMs);
        if (status !== 200) throw new Error(`${path}: ${status}`);
        return;
      } catch (err) {
        if (Date.now() > until || this.#child.exitCode !== null) throw err;
        await sleep(RETRY_MS);
      }
    }
  }

  /** Stopped and written down; the process is to be ended afterwards. */
  async suspend(): Promise<RawSnapshot> {
    await this.stop();
    const { helper, template } = this.#spec;
    const [memory, devices] = [join(this.#folder, "memory.diff"), join(this.#folder, "devices")];
    await using copier = new GuestMemory(helper, createLog("silent"));
    const request = { pid: this.#child.pid ?? 0, template: template.files.memory, out: memory, parents: [] };
    const { indexSha256, bytes } = await copier.save(request, AbortSignal.timeout(30_000));
    await this.qmp.execute("xen-save-devices-state", { filename: devices, live: false }, 30_000);
    return { devices, memory: { path: memory, indexSha256 }, layers: this.#disks, bytes };
  }

  /** Of the process so far, user and system. */
  async cpuMs(): Promise<number> {
    const stat = await readFile(`/proc/${this.#child.pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MS;
  }

  /** The folder stays, since a snapshot may lie in it; it goes with the host. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const gone = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await gone;
    }
    this.qmp.close();
    await this.#host.release(this.#slot);
  }
}

/** Ends with this process, however that ends: `--pdeathsig`. */
async function start(
  folder: string,
  qemu: string,
  slot: Slot,
  args: readonly string[],
): Promise<{ child: ChildProcess; qmp: Qmp }> {
  const socket = join(folder, "qmp");
  const outside = args.map((arg) =>
    arg
      .replace(/^tap,id=net0,fd=\d+$/, `tap,id=net0,ifname=${slot.tap},script=no,downscript=no`)
      .replace(/^socket,id=qmp0,fd=\d+/, `socket,id=qmp0,path=${socket}`)
      .replace(`path=${JAIL.run}/`, `path=${folder}/`),
  );
  const child = spawn("nsenter", [`--net=${slot.netns}`, "setpriv", "--pdeathsig", "KILL", qemu, ...outside], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-4096);
  });
  child.once("error", (err) => {
    said += err.message;
  });
  for (;;) {
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`raw QEMU ended: ${said}`);
    try {
      return { child, qmp: await Qmp.connect(socket, AbortSignal.timeout(10_000)) };
    } catch (err) {
      if (!/ENOENT|ECONNREFUSED/.test(String(err))) {
        child.kill("SIGKILL");
        throw new Error(`raw QEMU: ${said}`, { cause: err });
      }
      await sleep(1);
    }
  }
}
