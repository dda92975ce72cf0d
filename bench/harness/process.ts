import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import type { Readable } from "node:stream";

/** The server has one core, whoever asks it another one; on a machine of one core they share it. */
const PINNED = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).status === 0;
export const SERVER_CORE: readonly string[] = PINNED ? ["taskset", "-c", "0"] : [];
const OTHER_CORES: readonly string[] = PINNED ? ["taskset", "-c", `1-${availableParallelism() - 1}`] : [];

export const cores = (): string => (PINNED ? "server on one, load on another" : "shared: no taskset, or one core");

/** This process, which makes the load, leaves the server's core. */
export function leaveServersCore(): void {
  if (PINNED) spawnSync("taskset", ["-pc", `1-${availableParallelism() - 1}`, String(process.pid)]);
}

/** A program on the server's core, or on the others. Disposing of it ends it. */
export class BenchProcess implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #gone: Promise<unknown>;

  constructor(command: readonly string[], where: "server" | "load") {
    // taskset becomes the program, so that the process id is the program's.
    const [program = "", ...args] = [...(where === "server" ? SERVER_CORE : OTHER_CORES), ...command];
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
    this.#gone = once(this.#child, "close");
    this.#gone.catch(() => {});
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The first line that it prints. @throws Error when it ends before */
  async line(): Promise<string> {
    let text = "";
    for await (const chunk of this.#child.stdout.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
      text += chunk;
      const end = text.indexOf("\n");
      if (end >= 0) return text.slice(0, end);
    }
    throw new Error(`${this.#child.spawnargs.join(" ")} ended before it said anything`);
  }

  /** Milliseconds of processor time that it has had. */
  async cpuMs(): Promise<number> {
    const stat = await readFile(`/proc/${this.pid}/stat`, "utf8");
    // Counted behind the program's name, which may hold spaces; in ticks, of which there are 100 a second everywhere.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** Its resident memory in megabytes. */
  async memoryMb(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, "utf8");
    return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#gone.catch(() => {});
  }
}
