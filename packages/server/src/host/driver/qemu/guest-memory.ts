import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { z } from "zod";
import type { Log } from "../../../lib/log.ts";
import { type MemoryDiff, type MemoryFile, SnapshotError } from "../driver.ts";

export interface SaveRequest {
  /** A VMM that stands still, or a frozen image of one. */
  readonly pid: number;
  readonly template: string;
  readonly out: string;
  /** Diffs that what is saved builds on, oldest first. */
  readonly parents: readonly string[];
}
export interface LoadRequest {
  readonly pid: number;
  readonly template: string;
  /** Oldest first. */
  readonly files: readonly MemoryFile[];
}

/** `corrupt`: a file is not what it was. `gone`: there is no such process. */
export class MemoryError extends Error {
  override readonly name = "MemoryError";
  readonly code: "corrupt" | "no_space" | "gone" | "internal";
  constructor(code: MemoryError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

const diff = z.object({
  sha256: z.string(),
  indexSha256: z.string(),
  bytes: z.number(),
  dataPages: z.number(),
  scannedPages: z.number(),
  samePages: z.number(),
  livePages: z.number(),
});
const frozen = z.object({ frozenPid: z.number().int().positive() });
const answer = z.object({
  id: z.number(),
  ok: z.unknown().optional(),
  error: z.string().optional(),
  code: z.string().optional(),
});

interface Waiting {
  resolve(ok: unknown): void;
  reject(err: Error): void;
}

/**
 * The helper that copies guest memory: one process for all VMMs of this host, so that no suspend or resume spawns one.
 * It is started when it is needed first, and again if it should end.
 * Its protocol: docs/helper-protocol.md
 */
export class GuestMemory implements AsyncDisposable {
  readonly #helper: string;
  readonly #log: Log;
  #worker: Worker | undefined;

  constructor(helper: string, log: Log) {
    this.#helper = helper;
    this.#log = log;
  }

  /** @throws MemoryError; nothing is left at `out` then */
  async save(request: SaveRequest, signal: AbortSignal): Promise<MemoryDiff> {
    return diff.parse(await this.#ask("save", request, signal));
  }

  /** @throws MemoryError; the process is then to be ended */
  async load(request: LoadRequest, signal: AbortSignal): Promise<void> {
    await this.#ask("load", request, signal);
  }

  /** @throws SnapshotError `corrupt` */
  async verify(request: { readonly path: string; readonly sha256: string }, signal: AbortSignal): Promise<void> {
    await this.#ask("verify", request, signal).catch((err: unknown) => {
      if (err instanceof MemoryError && err.code === "corrupt")
        throw new SnapshotError("corrupt", err.message, { cause: err });
      throw err;
    });
  }

  /** A process that holds the memory of `pid` as it is now and never runs. */
  async freeze(pid: number, template: string, signal: AbortSignal): Promise<number> {
    return frozen.parse(await this.#ask("freeze", { pid, template }, signal)).frozenPid;
  }

  async thaw(frozenPid: number): Promise<void> {
    await this.#ask("thaw", { frozenPid }, AbortSignal.timeout(10_000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.close();
  }

  async #ask(op: string, request: object, signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    if (!this.#worker || this.#worker.ended) this.#worker = new Worker(this.#helper, this.#log);
    // An abort does not interrupt the copy: what it works on would be taken away under it.
    return await this.#worker.ask(op, request);
  }
}

class Worker {
  ended = false;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #gone: Promise<unknown>;
  #next = 1;
  #text = "";

  constructor(helper: string, log: Log) {
    this.#child = spawn(helper, ["memory"], { stdio: ["pipe", "pipe", "pipe"], env: {} });
    let said = "";
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4096);
    });
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => this.#receive(text));
    this.#child.stdin.on("error", () => {}); // it ended: its exit says why
    this.#gone = Promise.race([once(this.#child, "close"), once(this.#child, "error")]).then(([why]) => {
      this.ended = true;
      if (this.#waiting.size > 0) log.error({ why: String(why), said }, "the memory helper ended");
      for (const { reject } of this.#waiting.values())
        reject(new MemoryError("internal", `the memory helper ended: ${said.trim() || String(why)}`));
      this.#waiting.clear();
    });
    this.#child.unref();
  }

  ask(op: string, request: object): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ id, op, ...request })}\n`);
    });
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.#gone;
  }

  #receive(text: string): void {
    const lines = (this.#text + text).split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) this.#settle(answer.parse(JSON.parse(line)));
  }

  #settle({ id, ok, error, code }: z.infer<typeof answer>): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(ok);
    else waiting?.reject(new MemoryError(isCode(code) ? code : "internal", error));
  }
}

const isCode = (code: string | undefined): code is MemoryError["code"] =>
  code === "corrupt" || code === "no_space" || code === "gone";
