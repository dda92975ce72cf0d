import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { LambdaMicrovmsClient } from "@aws-sdk/client-lambda-microvms";
import { S3Client } from "@aws-sdk/client-s3";
import { ZipFile } from "yazl";
import { SlotPool, slotPrefix } from "../../src/host/network/slot-pool.ts";
import { createLog } from "../../src/lib/log.ts";

const MAIN = fileURLToPath(import.meta.resolve("@torpor/server/main"));
const CRASH_BEFORE = fileURLToPath(new URL("crash-before.ts", import.meta.url));
const END_WITH_PARENT = fileURLToPath(new URL("end-with-parent.ts", import.meta.url));

interface Credentials {
  readonly endpointUrl: string;
  readonly endpointPort: number;
  readonly region: string;
  readonly accountId: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly caFile: string;
}

/** A whole server as users start it: its own process, data directory and free ports. */
export class TestServer implements AsyncDisposable {
  readonly dataDir: string;
  readonly #settings: Readonly<Record<string, string>>;
  readonly #killable: boolean;
  /** Not in the data directory: that may be on a disk that a test fills. */
  readonly #logFile: string;
  #child: ChildProcess | undefined;
  #credentials: Credentials | undefined;
  #api: LambdaMicrovmsClient | undefined;
  #s3: S3Client | undefined;
  #ca = "";

  private constructor(dataDir: string, settings: Readonly<Record<string, string>>, killable: boolean) {
    this.dataDir = dataDir;
    this.#killable = killable;
    this.#logFile = join(tmpdir(), `${basename(dataDir)}.log`);
    this.#settings = settings;
  }

  /**
   * @param parent folder to make the data directory in
   * @param killable the server obeys `killBefore`
   */
  static async start(
    settings: Readonly<Record<string, string>> = {},
    { parent = tmpdir(), killable = false } = {},
  ): Promise<TestServer> {
    const server = new TestServer(await mkdtemp(join(parent, "torpor-vm-")), settings, killable);
    try {
      await server.start();
      return server;
    } catch (err) {
      await server[Symbol.asyncDispose]();
      throw err;
    }
  }

  /**
   * Also after kill(): on the same data directory. Ports stay the same, so that clients do.
   * @param others settings in place of those that it was made with
   */
  async start(others: Readonly<Record<string, string>> = {}): Promise<void> {
    const ports = this.#credentials
      ? {
          "api-port": new URL(this.#credentials.endpointUrl).port,
          "endpoint-port": `${this.#credentials.endpointPort}`,
        }
      : { "api-port": "0", "endpoint-port": "0" };
    const settings = {
      "data-dir": this.dataDir,
      accelerator: "tcg",
      "log-level": "debug",
      // What is kept warm comes and goes beside a test: those that are about it ask for it.
      "pool-size": "0",
      "standby-seconds": "0",
      ...ports,
      ...this.#settings,
      ...others,
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    const preload = [END_WITH_PARENT, ...(this.#killable ? [CRASH_BEFORE] : [])].flatMap((file) => ["--import", file]);
    const child = spawn(process.execPath, [...preload, MAIN, "serve", ...args], {
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child = child;
    const log = createWriteStream(this.#logFile, { flags: "a" });
    child.stderr!.pipe(log);
    let text = "";
    await new Promise<void>((resolve, reject) => {
      child.stderr!.on("data", (chunk: Buffer) => {
        if (text.length > 1 << 20) return;
        text += chunk.toString();
        if (text.includes('"msg":"serving"')) resolve();
      });
      child.once("exit", (code) => reject(new Error(`torpor serve ended with ${code}:\n${text}`)));
    });
    this.#credentials = JSON.parse(await readFile(join(this.dataDir, "credentials.json"), "utf8")) as Credentials;
    this.#ca = await readFile(this.#credentials.caFile, "utf8");
  }

  get credentials(): Credentials {
    if (!this.#credentials) throw new Error("the server was never started");
    return this.#credentials;
  }

  /** The unmodified SDK: only endpoint and credentials are set. */
  get api(): LambdaMicrovmsClient {
    this.#api ??= new LambdaMicrovmsClient({ ...this.#clientSettings(), maxAttempts: 1 });
    return this.#api;
  }

  get s3(): S3Client {
    this.#s3 ??= new S3Client(this.#clientSettings());
    return this.#s3;
  }

  /** HTTPS to a microvm's endpoint, as a client that trusts our CA and resolves *.localhost. */
  fetch(
    endpoint: string,
    path: string,
    options: {
      readonly method?: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    } = {},
  ): Promise<{ status: number; headers: Record<string, unknown>; body: string }> {
    const url = new URL(path, `https://${endpoint}`);
    return new Promise((resolve, reject) => {
      const call = request(
        url,
        {
          method: options.method ?? "GET",
          headers: { ...options.headers },
          ca: this.#ca,
          agent: false,
          lookup: (_host, _options, done) => done(null, [{ address: "127.0.0.1", family: 4 }]),
        },
        (response) => {
          let body = "";
          response.setEncoding("utf8").on("data", (text: string) => {
            body += text;
          });
          response.once("error", reject);
          response.once("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
        },
      );
      call.once("error", reject);
      call.end(options.body);
    });
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error("the server does not run");
    return pid;
  }

  /** What users fear: no warning, no clean-up. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /**
   * Of a killable server: has it end by SIGKILL before its nth effect (a file, a process, a statement, bytes sent) from now;
   * undefined: not any more. Resolves with the number of effects since the last call, or "dead".
   */
  async killBefore(effect: number | undefined): Promise<number | "dead"> {
    const child = this.#child;
    if (!child) throw new Error("the server was never started");
    const dead = once(child, "exit").then(() => "dead" as const);
    if (child.exitCode !== null || child.signalCode !== null) return "dead";
    const answered = once(child, "message").then(([n]) => n as number);
    child.send(effect ?? -1, () => {});
    return await Promise.race([answered, dead]);
  }

  /**
   * The VMMs that run for this data directory, found in /proc without asking the server: by the id of their microvm, or
   * by their own when no microvm has them.
   */
  async vmms(): Promise<string[]> {
    const owners = new Map<string, string>();
    const vms = join(this.dataDir, "vms");
    for (const id of await readdir(vms)) {
      const record = await readFile(join(vms, id, "instance.json"), "utf8").catch(() => "{}");
      const { vmm } = JSON.parse(record) as { vmm?: { id: string } | null };
      if (vmm) owners.set(vmm.id, id);
    }
    return (await this.#vmmProcesses()).map(({ id }) => owners.get(id) ?? id).sort();
  }

  async #vmmProcesses(): Promise<{ readonly pid: number; readonly id: string }[]> {
    const found = [];
    for (const name of await readdir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const args = (await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "")).split("\0");
      const id = args[args.indexOf("-name") + 1];
      if (!args[0]?.includes("qemu-system") || id === undefined) continue;
      // What is bound into its jail says whose it is, also when the folder is gone by now.
      const mounts = await readFile(`/proc/${name}/mountinfo`, "utf8").catch(() => "");
      if (mounts.includes(`${this.dataDir}/vmms/${id}/`)) found.push({ pid: Number(name), id });
    }
    return found;
  }

  /** Names of the network namespaces that there are for this data directory. */
  async slots(): Promise<string[]> {
    const prefix = slotPrefix(this.dataDir);
    return (await readdir("/run/netns").catch(() => [])).filter((name) => name.startsWith(prefix));
  }

  /** Ends the server, every VMM and slot of its data directory, and removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end("SIGTERM");
    for (const { pid } of await this.#vmmProcesses()) process.kill(pid, "SIGKILL");
    await removeSlots(this.dataDir);
    // For whoever looks for the cause of a failed test.
    const keep = process.env.TORPOR_TEST_LOGS;
    if (keep) await copyFile(this.#logFile, join(keep, basename(this.#logFile))).catch(() => {});
    await rm(this.#logFile, { force: true });
    await rm(this.dataDir, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    const hard = setTimeout(() => child.kill("SIGKILL"), 30_000);
    await gone;
    clearTimeout(hard);
  }

  #clientSettings() {
    const { endpointUrl: endpoint, region, accessKeyId, secretAccessKey } = this.credentials;
    return { endpoint, region, credentials: { accessKeyId, secretAccessKey } };
  }
}

/** Runs `torpor serve` until it ends by itself, which it must. */
export async function failedStart(
  settings: Readonly<Record<string, string>>,
  command: readonly string[] = [process.execPath],
): Promise<{ readonly code: number | null; readonly stderr: string }> {
  const flags = Object.entries({ accelerator: "tcg", "api-port": "0", "endpoint-port": "0", ...settings });
  const args = [...command, MAIN, "serve", ...flags.flatMap(([name, value]) => [`--${name}`, value])];
  const child = spawn(args[0]!, args.slice(1), { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    if (stderr.includes('"msg":"serving"')) child.kill("SIGKILL");
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stderr };
}

/** Zips a folder, or files given by name. */
export async function zip(files: Readonly<Record<string, string>> | string): Promise<Buffer> {
  const archive = new ZipFile();
  const options = { mtime: new Date(0) };
  if (typeof files === "string") {
    for (const entry of await readdir(files, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isFile()) archive.addFile(path, relative(files, path), options);
    }
  } else for (const [name, text] of Object.entries(files)) archive.addBuffer(Buffer.from(text), name, options);
  archive.end();
  const chunks = [];
  for await (const chunk of archive.outputStream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Repeats until the answer is there. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined>, timeoutMs = 120_000): Promise<T> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > until) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const NONE = { connections: { most: 1, perSecond: 1 } };

async function removeSlots(dataDir: string): Promise<void> {
  const pool = new SlotPool({
    dataDir,
    cidr: "100.64.0.0/16",
    uidBase: 1,
    max: 0,
    spare: 0,
    limits: NONE,
    log: createLog("silent"),
  });
  await pool.start(new Map());
  await pool.close();
}
