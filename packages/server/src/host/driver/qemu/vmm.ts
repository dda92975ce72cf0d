import { constants } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../../../lib/errors.ts";
import { run } from "../../../lib/run.ts";
import { printable } from "../../../lib/text.ts";
import type { InstanceDir, MemoryDiff, Vmm } from "../driver.ts";
import { JAIL } from "./arguments.ts";
import { alive, type ProcessIdentity } from "./process.ts";
import type { Qmp } from "./qmp.ts";

/** Longest time for saving or loading device state; it takes milliseconds. */
const MIGRATION_MS = 30_000;
const EXIT_POLL_MS = 5;

export interface QemuVmmParts {
  readonly dir: InstanceDir;
  readonly process: ProcessIdentity;
  readonly qmp: Qmp;
  readonly helper: string;
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

  async privateBytes(): Promise<number> {
    const rollup = await readFile(`/proc/${this.pid}/smaps_rollup`, "utf8");
    return Number(/^Private_Dirty:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
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
    await this.#parts.qmp.execute("xen-save-devices-state", { filename, live: false }, MIGRATION_MS);
    return out;
  }

  async saveMemory(out: string, signal: AbortSignal): Promise<MemoryDiff> {
    const template = this.#parts.templateMemory;
    if (template === undefined) throw new Error("a booted VMM has its memory in its own file");
    const args = ["save-memory", "--pid", String(this.pid), "--template", template, "--out", out];
    return JSON.parse(await run(this.#parts.helper, args, { signal })) as MemoryDiff;
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
}

/** Loads device state into a VMM that waits for it, and waits for the end. */
export async function loadDevices(qmp: Qmp, filename: string): Promise<void> {
  await qmp.execute("migrate-set-capabilities", { capabilities: [{ capability: "events", state: true }] });
  const final = new Set(["completed", "failed", "cancelled"]);
  const end = qmp.event((e) => e.event === "MIGRATION" && final.has(String(e.data.status)), MIGRATION_MS);
  end.catch(() => {}); // awaited below, unless the command itself fails
  await qmp.execute("migrate-incoming", { uri: `file:${filename}` });
  const { data } = await end;
  if (data.status !== "completed") throw new Error(`device state: ${String(data.status)}`);
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
export async function lastWords(dir: InstanceDir): Promise<string> {
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
