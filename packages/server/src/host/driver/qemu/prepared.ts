import { constants } from "node:fs";
import { chown, copyFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, messageOf } from "../../../lib/errors.ts";
import type { PreparedVmm, PrepareSpec, RestoreSpec, Vmm } from "../driver.ts";
import { SnapshotError } from "../driver.ts";
import { DISK_DEVICE, diskChain, JAIL, jailed, nodeOf } from "./arguments.ts";
import { MemoryError } from "./guest-memory.ts";
import type { Qmp } from "./qmp.ts";
import { endProcess, KILLED, lastWords, QemuVmm, type QemuVmmParts } from "./vmm.ts";

/** Longest time for loading device state; it takes milliseconds. */
const LOAD_MS = 30_000;

/** A QEMU process that waits for its snapshot. */
export class PreparedQemu implements PreparedVmm {
  readonly pid: number;
  readonly ended: Promise<string>;
  readonly #parts: QemuVmmParts;
  readonly #spec: PrepareSpec;
  readonly #vmm: QemuVmm;

  constructor(parts: QemuVmmParts, spec: PrepareSpec) {
    this.#parts = parts;
    this.#spec = spec;
    this.pid = parts.process.pid;
    this.#vmm = new QemuVmm(parts);
    this.ended = this.#vmm.ended;
  }

  async restore(spec: RestoreSpec, signal: AbortSignal): Promise<Vmm> {
    const { qmp, dir, exit } = this.#parts;
    try {
      // Memory and disk must be there when devices are loaded. All of it is awaited: what fails last must not go on
      // behind the back of whoever cleans up.
      const ready = await Promise.allSettled([
        this.#loadMemory(spec, signal),
        this.#putDevices(spec.devices),
        this.#attachDisk(spec),
        qmp.execute("migrate-set-capabilities", { capabilities: [{ capability: "events", state: true }] }),
      ]);
      for (const part of ready) if (part.status === "rejected") throw part.reason;
      await loadDevices(qmp, `${JAIL.run}/${DEVICES}`);
      signal.throwIfAborted();
      return this.#vmm;
    } catch (err) {
      const lost = qmp.failure !== undefined;
      const said = await lastWords(dir);
      await this.kill();
      signal.throwIfAborted();
      if (err instanceof MemoryError && err.code === "corrupt")
        throw new SnapshotError("corrupt", err.message, { cause: err });
      // What else goes wrong says nothing of the snapshot, unless the VMM itself refuses it, or ends from it.
      if (err instanceof MemoryError || (errnoOf(err) ?? "ENOENT") !== "ENOENT") throw err;
      if (lost && (await exit) === KILLED)
        throw new Error(`the VMM ended while it was restored: ${messageOf(err)}`, { cause: err });
      throw new SnapshotError("corrupt", `the VMM refused the snapshot: ${messageOf(err)}${said}`, { cause: err });
    } finally {
      await rm(join(dir.run, DEVICES), { force: true });
    }
  }

  async kill(): Promise<void> {
    await endProcess(this.#parts.process);
    this.#parts.qmp.close();
    await this.ended;
  }

  async #loadMemory({ memory }: RestoreSpec, signal: AbortSignal): Promise<void> {
    if (memory.length === 0) return;
    await this.#parts.memory.load({ pid: this.pid, template: this.#spec.template.memory, files: memory }, signal);
  }

  /** A copy that belongs to the VMM: it can read no file of ours. */
  async #putDevices(devices: string): Promise<void> {
    const { dir, slot } = this.#spec;
    const copy = join(dir.run, DEVICES);
    await copyFile(devices, copy, constants.COPYFILE_EXCL);
    await chown(copy, slot.uid, slot.uid);
  }

  async #attachDisk({ layers, activeDisk }: RestoreSpec): Promise<void> {
    const { dir, template } = this.#spec;
    const { qmp } = this.#parts;
    const inJail = (path: string): string => jailed(path, dir.disks, JAIL.disks);
    const base = jailed(template.disk, template.path, JAIL.template);
    await qmp.execute("blockdev-add", { ...diskChain(base, layers.map(inJail), inJail(activeDisk)) });
    await qmp.execute("qom-set", { path: DISK_DEVICE, property: "drive", value: nodeOf(activeDisk) });
  }
}

const DEVICES = "devices-in";

/** Loads device state into a VMM that waits for it and reports migration events, and waits for the end. */
export async function loadDevices(qmp: Qmp, filename: string): Promise<void> {
  const final = new Set(["completed", "failed", "cancelled"]);
  const end = qmp.event((e) => e.event === "MIGRATION" && final.has(String(e.data.status)), LOAD_MS);
  end.catch(() => {}); // awaited below, unless the command itself fails
  await qmp.execute("migrate-incoming", { uri: `file:${filename}` });
  const { data } = await end;
  if (data.status !== "completed") throw new Error(`device state: ${String(data.status)}`);
}
