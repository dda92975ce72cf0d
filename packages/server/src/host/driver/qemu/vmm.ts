import { constants } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../../../lib/errors.ts";
import { printable } from "../../../lib/text.ts";
import type { FrozenMemory, MemoryDiff, Vmm, VmmDir } from "../driver.ts";
import { DISK_DEVICE, JAIL, jailed, newLayer, nodeOf } from "./arguments.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { alive, type ProcessIdentity } from "./process.ts";
import type { Qmp } from "./qmp.ts";

/** Longest time for saving device state; it takes milliseconds. */
const SAVE_MS = 30_000;
const EXIT_POLL_MS = 5;
/** How a process ended that did not do so by itself: the kernel was short of memory, or somebody wanted it gone. */
export const KILLED = "was killed by SIGKILL";

export interface QemuVmmParts {
  readonly dir: VmmDir;
  readonly process: ProcessIdentity;
  readonly qmp: Qmp;
  readonly memory: GuestMemory;
  /** Memory file of the template; absent for a VMM that is to become one. */
  readonly templateMemory: string | undefined;
  /** How the process ended, once it has; undefined when it is no child of this daemon. */
  readonly exit: Promise<string> | undefined;
}

/** One QEMU process, ours or adopted from an earlier daemon. */
export class QemuVmm implements Vmm {
  readonly pid: number;
  readonly ended: Promise<string>;
  readonly #parts: QemuVmmParts;
  #detached = false;

  constructor(parts: QemuVmmParts) {
    this.#parts = parts;
    this.pid = parts.process.pid;
    this.ended = parts.qmp.closed.then(async () => {
      if (this.#detached) return await new Promise<never>(() => {});
      // The connection can only be lost with the process, unless the VMM misbehaves: then it is ended.
      const unwanted = alive(parts.process);
      await endProcess(parts.process);
      const how = unwanted ? `was ended by us: ${parts.qmp.failure?.message}` : ((await parts.exit) ?? "ended");
      return `the VMM ${how}${await lastWords(parts.dir)}`;
    });
  }

  async run(): Promise<void> {
    await this.#parts.qmp.execute("cont");
  }

  async pause(): Promise<void> {
    await this.#parts.qmp.execute("stop", {}, 30_000); // it flushes the disk
  }

  async running(): Promise<boolean> {
    const status = (await this.#parts.qmp.execute("query-status")) as { running?: unknown } | null;
    return status?.running === true;
  }

  /** From a counter: to add up the mapping itself takes milliseconds. Source: proc(5), RssAnon */
  async privateBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, "utf8");
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  }

  async pssBytes(): Promise<number> {
    const rollup = await readFile(`/proc/${this.pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
  }

  /**
   * All device sections and no memory: templates and clones are saved in the same way, whether their memory is shared
   * or private. (Needs no Xen. `migrate` is no way: with a private mapping it would write all of the memory, and
   * without the configuration section, which this format lacks, QEMU 10.0 aborts in it.)
   */
  async saveDevices(): Promise<string> {
    const out = join(this.#parts.dir.run, "devices");
    await rm(out, { force: true });
    const filename = `${JAIL.run}/devices`;
    await this.#parts.qmp.execute("xen-save-devices-state", { filename, live: false }, SAVE_MS);
    return out;
  }

  async saveMemory(out: string, parents: readonly string[], signal: AbortSignal): Promise<MemoryDiff> {
    return await this.#save(this.pid, out, parents, signal);
  }

  async freeze(signal: AbortSignal): Promise<FrozenMemory> {
    const { memory } = this.#parts;
    const frozen = await memory.freeze(this.pid, this.#template(), signal);
    return {
      saveMemory: (out, parents, saveSignal) => this.#save(frozen, out, parents, saveSignal),
      [Symbol.asyncDispose]: () => memory.thaw(frozen),
    };
  }

  async switchDisk(next: string): Promise<void> {
    const { dir, qmp } = this.#parts;
    const node = await qmp.execute("qom-get", { path: DISK_DEVICE, property: "drive" });
    await qmp.execute("blockdev-add", { ...newLayer(jailed(next, dir.disks, JAIL.disks)) });
    await qmp.execute("blockdev-snapshot", { node, overlay: nodeOf(next) });
  }

  detach(): void {
    this.#detached = true;
    this.#parts.qmp.close();
  }

  async kill(): Promise<void> {
    await endProcess(this.#parts.process);
    this.#parts.qmp.close();
    await this.ended;
  }

  async #save(pid: number, out: string, parents: readonly string[], signal: AbortSignal): Promise<MemoryDiff> {
    return await this.#parts.memory.save({ pid, template: this.#template(), out, parents }, signal);
  }

  #template(): string {
    const { templateMemory } = this.#parts;
    if (templateMemory === undefined) throw new Error("a booted VMM has its memory in its own file");
    return templateMemory;
  }
}

/** SIGKILL, and waits. A no-op for a process that is gone, or whose id belongs to another one by now. */
export async function endProcess(process_: ProcessIdentity): Promise<void> {
  while (alive(process_)) {
    try {
      process.kill(process_.pid, "SIGKILL");
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== "ESRCH") throw err;
    }
    await new Promise((resolve) => setTimeout(resolve, EXIT_POLL_MS));
  }
}

/** The end of the VMM's own messages and of the guest's console: the only witnesses of a silent death. */
export async function lastWords(dir: VmmDir): Promise<string> {
  const messages = await tail(join(dir.path, "vmm.log"), 1024);
  const console_ = await tail(join(dir.run, "console.log"), 1024);
  const parts = [messages && `its messages: ${messages}`, console_ && `the guest's console: ${console_}`];
  const said = parts.filter(Boolean).join("; ");
  return said === "" ? "" : `; ${said}`;
}

async function tail(path: string, bytes: number): Promise<string> {
  try {
    // The folder is the VMM's: a link there must not lead us elsewhere.
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, Math.max(0, size - bytes));
    return printable(buffer.toString("utf8", 0, bytesRead).trim());
  } catch (err) {
    return `(${messageOf(err)})`;
  }
}
