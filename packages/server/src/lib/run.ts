import { spawn } from "node:child_process";

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  /** The child's whole environment: nothing of ours is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** SIGTERM, a second later SIGKILL, then the abort's reason is thrown. */
  readonly signal?: AbortSignal;
  /** What is kept of stdout, in bytes; more is an error. */
  readonly maxOutput?: number;
}

const STDERR_KEPT = 4096;
const MINIMAL_ENV = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/**
 * Runs a program to its end and returns its stdout.
 * @throws Error with the exit status and the last 4 KiB of stderr; ENOENT as Node reports it.
 */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  options.signal?.throwIfAborted();
  const maxOutput = options.maxOutput ?? 1 << 20;
  const child = spawn(file, args, {
    stdio: ["pipe", "pipe", "pipe"],
    cwd: options.cwd,
    env: options.env ?? MINIMAL_ENV,
  });
  let stdout = "";
  let stderr = "";
  let tooLong = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    if (stdout.length > maxOutput) {
      tooLong = true;
      child.kill("SIGKILL");
    }
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_KEPT);
  });
  child.stdin.on("error", () => {}); // EPIPE: the child ended without reading; its status says why
  child.stdin.end(options.input ?? "");
  const abort = (): void => {
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), 1000).unref();
  };
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    const [code, signalName] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (c, s) => resolve([c, s]));
    });
    options.signal?.throwIfAborted();
    if (tooLong) throw new Error(`${file}: more than ${maxOutput} bytes of output`);
    if (code !== 0) {
      const status = code === null ? `killed by ${signalName}` : `exit status ${code}`;
      throw new Error(`${file} ${args.slice(0, 2).join(" ")}: ${status}: ${stderr.trim()}`);
    }
    return stdout;
  } finally {
    options.signal?.removeEventListener("abort", abort);
  }
}
