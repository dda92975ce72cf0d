import { spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { z } from "zod";
import type { BuildTools } from "./tools.ts";

/** What a build can reach. `netns` is the path of a network namespace, entered as it is. */
export type JailNetwork =
  | { readonly kind: "none" }
  | { readonly kind: "host" }
  | { readonly kind: "netns"; readonly path: string; readonly resolvConf?: string };

export interface JailBind {
  readonly source: string;
  /** Absolute, in the jail. */
  readonly target: string;
  readonly writable?: true;
}

export interface JailRequest {
  readonly argv: readonly string[];
  readonly binds: readonly JailBind[];
  /** An ext4 image to mount at /w, the working folder. */
  readonly store?: string;
  readonly network?: JailNetwork;
  readonly env?: Readonly<Record<string, string>>;
  /** Largest file that anything in the jail can write. */
  readonly maxFileBytes?: number;
}

export interface JailEnd {
  readonly exitCode: number;
  /** Processes that the memory limit ended. */
  readonly oomKills: number;
}

export interface JailLimits {
  readonly uidBase: number;
  readonly memoryBytes: number;
  readonly pids: number;
}

const statusJson = z.object({ exitCode: z.number().int(), oomKills: z.number().int(), error: z.string().optional() });
const GRACE_MS = 2000;
const STATUS_BYTES = 64 << 10;

/**
 * Runs a program of the toolchain in a jail of its own (docs/decisions/0003-image-builds-in-a-jail.md). Everything in
 * it ends with the program, with an abort, and with this process.
 * @throws the abort's reason; Error when the jail could not be made
 */
export async function runInJail(
  tools: BuildTools,
  name: string,
  limits: JailLimits,
  request: JailRequest,
  onOutput: (chunk: Uint8Array) => void,
  signal: AbortSignal,
): Promise<JailEnd> {
  signal.throwIfAborted();
  const child = spawn(tools.helper, jailArguments(tools, name, limits, request), {
    // Our end of its stdin is what tells the helper that we are alive.
    stdio: ["pipe", "pipe", "pipe", "pipe"],
    env: {},
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve());
  });
  child.stdin.on("error", () => {}); // it has ended; its status says why
  child.stdout.on("data", onOutput);
  const complaint = collect(child.stderr, STATUS_BYTES);
  const status = collect(child.stdio[3], STATUS_BYTES);
  let last: NodeJS.Timeout | undefined;
  const abort = (): void => {
    child.kill("SIGTERM"); // passed on to the program; after the grace the helper ends the jail
    last = setTimeout(() => child.kill("SIGKILL"), GRACE_MS + 30_000);
  };
  signal.addEventListener("abort", abort, { once: true });
  try {
    await ended;
  } finally {
    signal.removeEventListener("abort", abort);
    clearTimeout(last);
    child.stdin.destroy();
  }
  signal.throwIfAborted();
  const read = statusJson.safeParse(parseJson(status()));
  if (!read.success) throw new Error(`the jail ended without a word: ${complaint().trim()}`);
  if (read.data.error !== undefined) throw new Error(`the jail could not be made: ${read.data.error}`);
  return read.data;
}

function jailArguments(tools: BuildTools, name: string, limits: JailLimits, request: JailRequest): string[] {
  const args = ["jail", "--toolchain", tools.toolchain, "--uid-base", String(limits.uidBase), "--name", name];
  args.push("--memory-bytes", String(limits.memoryBytes), "--pids", String(limits.pids));
  args.push("--die-with-stdin", "--merge-output", "--status-fd", "3", "--grace-ms", String(GRACE_MS));
  const network = request.network ?? { kind: "none" };
  if (network.kind === "host") args.push("--host-net", "--resolv", "/etc/resolv.conf");
  if (network.kind === "netns") args.push("--netns", network.path);
  if (network.kind === "netns" && network.resolvConf !== undefined) args.push("--resolv", network.resolvConf);
  if (request.store !== undefined) args.push("--store", request.store);
  if (request.maxFileBytes !== undefined) args.push("--max-file-bytes", String(request.maxFileBytes));
  for (const bind of request.binds)
    args.push("--bind", `${bind.source}:${bind.target}${bind.writable === true ? ":rw" : ""}`);
  for (const [key, value] of Object.entries(request.env ?? {})) args.push("--env", `${key}=${value}`);
  return [...args, "--", ...request.argv];
}

/** Keeps the end of a stream of text. */
function collect(stream: Readable | NodeJS.WritableStream | null | undefined, max: number): () => string {
  let text = "";
  if (stream && "setEncoding" in stream)
    stream.setEncoding("utf8").on("data", (more: string) => {
      text = (text + more).slice(-max);
    });
  return () => text;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
