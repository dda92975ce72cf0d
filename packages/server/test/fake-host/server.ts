import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LambdaMicrovmsClient, type LambdaMicrovmsClientConfig } from "@aws-sdk/client-lambda-microvms";
import { RATES } from "@torpor/protocol";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
/** Of the server's log, for whoever must find out what went wrong. */
const KEPT_CHARS = 64 * 1024;
const END_MS = 20_000;

/** Settings of a server that answers whoever asks, however often: its work is to be seen, not its patience. */
export const UNTHROTTLED = {
  quotas: Object.keys(RATES)
    .map((name) => `${name}.rate=unlimited`)
    .join(","),
};

export interface Credentials {
  readonly endpointUrl: string;
  readonly region: string;
  readonly accountId: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface StartOptions {
  /** As of `torpor serve`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** What is put before node, such as `taskset -c 0`. */
  readonly wrapper?: readonly string[];
  readonly nodeArgs?: readonly string[];
  /** Folder to make the data directory in. */
  readonly parent?: string;
}

/** A whole server without VMs: its own process, data directory and free ports. */
export class FakeHostServer implements AsyncDisposable {
  readonly dataDir: string;
  readonly credentials: Credentials;
  readonly #child: ChildProcess;
  readonly #log: Tail;

  private constructor(dataDir: string, credentials: Credentials, child: ChildProcess, log: Tail) {
    this.dataDir = dataDir;
    this.credentials = credentials;
    this.#child = child;
    this.#log = log;
  }

  static async start({
    settings = {},
    wrapper = [],
    nodeArgs = [],
    parent,
  }: StartOptions = {}): Promise<FakeHostServer> {
    const dataDir = await mkdtemp(join(parent ?? tmpdir(), "torpor-api-"));
    const flags = { "data-dir": dataDir, "api-port": "0", "endpoint-port": "0", "log-level": "info", ...settings };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const [program = "", ...rest] = [...wrapper, process.execPath, ...nodeArgs, MAIN, ...args];
    const child = spawn(program, rest, { stdio: ["ignore", "ignore", "pipe"] });
    const log = new Tail();
    try {
      await new Promise<void>((resolve, reject) => {
        child.stderr.setEncoding("utf8").on("data", (text: string) => {
          log.add(text);
          if (log.text.includes('"msg":"serving"')) resolve();
        });
        child.once("error", reject);
        child.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${log.text}`)));
      });
      const credentials = JSON.parse(await readFile(join(dataDir, "credentials.json"), "utf8"));
      return new FakeHostServer(dataDir, credentials, child, log);
    } catch (err) {
      child.kill("SIGKILL");
      await rm(dataDir, { recursive: true, force: true });
      throw err;
    }
  }

  get url(): string {
    return this.credentials.endpointUrl;
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** It has not ended, by itself or otherwise. */
  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The end of what it has logged. */
  get log(): string {
    return this.#log.text;
  }

  /** The unmodified SDK: only endpoint and credentials are set. */
  client(config: LambdaMicrovmsClientConfig = {}): LambdaMicrovmsClient {
    const { endpointUrl: endpoint, region, ...credentials } = this.credentials;
    return new LambdaMicrovmsClient({ endpoint, region, credentials, ...config });
  }

  /** Bytes of memory that are the server's alone and its part of what it shares, now. */
  async memory(): Promise<number> {
    const rollup = await readFile(`/proc/${this.pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]) * 1024;
  }

  /** Processor time that it has used since its start. */
  async cpuMs(): Promise<number> {
    const stat = await readFile(`/proc/${this.pid}/stat`, "utf8");
    // Counted behind the program's name, which may hold spaces; in ticks, of which there are 100 a second everywhere.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.alive) {
      const gone = once(this.#child, "exit");
      this.#child.kill("SIGTERM");
      const hard = setTimeout(() => this.#child.kill("SIGKILL"), END_MS);
      await gone;
      clearTimeout(hard);
    }
    await rm(this.dataDir, { recursive: true, force: true });
  }
}

class Tail {
  text = "";

  add(text: string): void {
    this.text = (this.text + text).slice(-KEPT_CHARS);
  }
}
