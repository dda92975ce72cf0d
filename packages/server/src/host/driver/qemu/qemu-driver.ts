import { spawn } from "node:child_process";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { Cleanup } from "../../../lib/cleanup.ts";
import { errnoOf, messageOf } from "../../../lib/errors.ts";
import type { Log } from "../../../lib/log.ts";
import { run } from "../../../lib/run.ts";
import type { BootSpec, Driver, DriverFacts, PreparedVmm, PrepareSpec, Slot, Vmm, VmmDir } from "../driver.ts";
import { bootArguments, cpuModel, INCOMING_ARGUMENTS, JAIL, jailed, MACHINE, machineArguments } from "./arguments.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { PreparedQemu } from "./prepared.ts";
import { alive, commandLine, identify } from "./process.ts";
import { emptyQcow2 } from "./qcow2.ts";
import { Qmp } from "./qmp.ts";
import { endProcess, KILLED, lastWords, QemuVmm, type QemuVmmParts } from "./vmm.ts";

export interface QemuOptions {
  readonly qemu: string;
  readonly helper: string;
  readonly memory: GuestMemory;
  readonly accelerator: "kvm" | "tcg";
  readonly version: string;
  readonly log: Log;
}

/** A VMM serves one QMP client at a time: an earlier daemon that is still on its way out must have let go. */
const ADOPT_MS = 20_000;

/** What is needed to find a VMM again. The helper writes it before it becomes the VMM: there is none without it. */
const vmmRecord = z.object({
  pid: z.number().int().positive(),
  startTime: z.string(),
  bootId: z.string(),
  templateMemory: z.string().nullable(),
});
type VmmRecord = z.infer<typeof vmmRecord>;

export class QemuDriver implements Driver {
  readonly facts: DriverFacts;
  readonly #options: QemuOptions;

  constructor(options: QemuOptions) {
    this.#options = options;
    this.facts = {
      vmm: "QEMU",
      accelerator: options.accelerator,
      vmmVersion: options.version,
      machine: MACHINE,
      cpu: cpuModel(options.accelerator),
    };
  }

  async boot(spec: BootSpec, signal: AbortSignal): Promise<Vmm> {
    signal.throwIfAborted();
    const memory = join(spec.dir.run, "memory");
    await using file = await open(memory, "wx", 0o600);
    await file.truncate(spec.shape.memoryMib * 2 ** 20);
    await file.chown(spec.slot.uid, spec.slot.uid);

    const boot = join(JAIL.boot, "vmlinux");
    const initramfs = join(JAIL.boot, "initramfs");
    const args = [
      ...machineArguments({
        id: spec.dir.id,
        accelerator: this.#options.accelerator,
        shape: spec.shape,
        memory: { path: `${JAIL.run}/memory`, mode: "shared" },
        disk: { path: jailed(spec.disk, spec.dir.disks, JAIL.disks) },
      }),
      ...bootArguments({ kernel: boot, initramfs, tscKhz: await hostTscKhz() }),
      "-S",
    ];
    const binds = [`${spec.kernel}:${boot}`, `${spec.initramfs}:${initramfs}`];
    const vmm = new QemuVmm(await this.#spawn(spec.dir, spec.slot, undefined, binds, args, signal));
    try {
      await vmm.run();
    } catch (err) {
      await vmm.kill();
      throw err;
    }
    return vmm;
  }

  async prepare(spec: PrepareSpec, signal: AbortSignal): Promise<PreparedVmm> {
    const { template } = spec;
    const args = [
      ...machineArguments({
        id: spec.dir.id,
        accelerator: this.#options.accelerator,
        shape: spec.shape,
        memory: { path: jailed(template.memory, template.path, JAIL.template), mode: "private" },
        disk: { bytes: spec.diskBytes },
      }),
      ...INCOMING_ARGUMENTS,
    ];
    const binds = [`${template.path}:${JAIL.template}`];
    const parts = await this.#spawn(spec.dir, spec.slot, template.memory, binds, args, signal);
    return new PreparedQemu(parts, spec);
  }

  async verifyMemory(path: string, sha256: string, signal: AbortSignal): Promise<void> {
    await this.#options.memory.verify({ path, sha256 }, signal);
  }

  async adopt(dir: VmmDir, signal: AbortSignal): Promise<Vmm | undefined> {
    const record = await readRecord(dir);
    if (!record || !isOurs(dir, record)) return undefined;
    let qmp: Qmp;
    try {
      qmp = await Qmp.connect(join(dir.path, "vmm.sock"), AbortSignal.any([signal, AbortSignal.timeout(ADOPT_MS)]));
    } catch (err) {
      signal.throwIfAborted();
      this.#options.log.warn({ err, id: dir.id, pid: record.pid }, "vmm does not answer");
      return undefined;
    }
    const templateMemory = record.templateMemory ?? undefined;
    const { memory } = this.#options;
    return new QemuVmm({ dir, process: record, qmp, memory, templateMemory, exit: undefined });
  }

  async destroy(dir: VmmDir): Promise<void> {
    const record = await readRecord(dir);
    if (record && isOurs(dir, record)) await endProcess(record);
  }

  async createLayer(path: string, diskBytes: number): Promise<void> {
    await writeFile(path, emptyQcow2(diskBytes), { flag: "wx", mode: 0o600 });
  }

  async mergeLayers(out: string, diskBytes: number, layers: readonly string[], signal: AbortSignal): Promise<void> {
    await run(this.#options.helper, ["merge-layers", out, String(diskBytes), ...layers], { signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.memory[Symbol.asyncDispose]();
  }

  async #spawn(
    dir: VmmDir,
    slot: Slot,
    templateMemory: string | undefined,
    binds: readonly string[],
    qemuArgs: readonly string[],
    signal: AbortSignal,
  ): Promise<QemuVmmParts> {
    signal.throwIfAborted();
    const { qemu, helper, accelerator } = this.#options;
    const socket = join(dir.path, "vmm.sock");
    const args = [
      ...["vmm", "--netns", slot.netns, "--tap", slot.tap, "--uid", String(slot.uid)],
      ...["--qmp", socket, "--log", join(dir.path, "vmm.log"), "--record", recordFile(dir)],
      ...(templateMemory === undefined ? [] : ["--template-memory", templateMemory]),
      ...(accelerator === "kvm" ? ["--kvm"] : []),
      ...[`${dir.run}:${JAIL.run}:rw`, `${dir.disks}:${JAIL.disks}:rw`, ...binds].flatMap((b) => ["--bind", b]),
      ...["--", qemu, ...qemuArgs],
    ];
    const child = spawn(helper, args, { detached: true, stdio: ["ignore", "pipe", "pipe"], env: {} });
    await using undo = new Cleanup(this.#options.log);
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4096);
    });
    const ready = new Promise<void>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, name) => reject(new Error(`exit ${code ?? name}: ${said.trim()}`)));
      child.stdout.once("data", () => resolve());
    });
    try {
      await ready;
    } catch (err) {
      throw new Error(`the VMM could not be started: ${messageOf(err)}`, { cause: err });
    }
    // Detached: the instance directory owns the process from here on, not this daemon.
    child.stdout.destroy();
    child.stderr.destroy();
    child.unref();
    const exit = new Promise<string>((resolve) => {
      child.once("exit", (code, name) =>
        resolve(name === "SIGKILL" ? KILLED : name ? `was killed by ${name}` : `ended with status ${code}`),
      );
    });
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (!identity) throw new Error(`the VMM ended at once${await lastWords(dir)}`);
    undo.add("vmm process", () => endProcess(identity));
    let qmp: Qmp;
    try {
      qmp = await Qmp.connect(socket, signal);
    } catch (err) {
      signal.throwIfAborted();
      throw new Error(`the VMM did not come up: ${messageOf(err)}${await lastWords(dir)}`, { cause: err });
    }
    undo.release();
    return { dir, process: identity, qmp, memory: this.#options.memory, templateMemory, exit };
  }
}

const recordFile = (dir: VmmDir): string => join(dir.path, "vmm.json");

/** Undefined when there is none, or it is damaged: it appears whole, so no VMM of ours has written that. */
async function readRecord(dir: VmmDir): Promise<VmmRecord | undefined> {
  try {
    return vmmRecord.safeParse(JSON.parse(await readFile(recordFile(dir), "utf8"))).data;
  } catch (err) {
    if (errnoOf(err) === "ENOENT" || err instanceof SyntaxError) return undefined;
    throw err;
  }
}

/** The same process as then, and it says of itself that it is this instance's VMM. */
function isOurs(dir: VmmDir, record: VmmRecord): boolean {
  if (!alive(record)) return false;
  const args = commandLine(record.pid);
  return args[args.indexOf("-name") + 1] === dir.id;
}

/** The frequency that the guest's kernel is told. */
async function hostTscKhz(): Promise<number> {
  const mhz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(await readFile("/proc/cpuinfo", "utf8"))?.[1];
  return mhz ? Math.round(Number(mhz) * 1000) : 2_000_000;
}

/** @throws Error when the program is missing or does not say which version it is */
export async function qemuVersion(qemu: string): Promise<string> {
  await stat(qemu);
  const said = await run(qemu, ["--version"]);
  const version = /version (\d+\.\d+\.\d+)/.exec(said)?.[1];
  if (!version) throw new Error(`${qemu} --version said ${JSON.stringify(said.slice(0, 100))}`);
  return version;
}
