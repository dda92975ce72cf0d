import { readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type HostFacts, type Receipt, TorporClient } from "@torpor/sdk";
import { Transport } from "../../packages/sdk/src/transport.ts";
import type { TemplateFiles } from "../../packages/server/src/host/driver/driver.ts";
import { HostLayout } from "../../packages/server/src/host/layout.ts";
import { readTemplateManifest, type TemplateManifest } from "../../packages/server/src/host/snapshot/manifest.ts";
import { buildImage } from "../../packages/server/test/vm/fixtures.ts";
import { TestServer } from "../../packages/server/test/vm/server.ts";
import { MODES, type Mode } from "./settings.ts";

const IMAGE = fileURLToPath(new URL("../images/memory", import.meta.url));

/** The image's template as the server keeps it. */
export interface Template {
  readonly files: TemplateFiles;
  readonly manifest: TemplateManifest;
}

/** A whole server of its own with the bench's image, restarted when other settings are to be measured. */
export class BenchServer implements AsyncDisposable {
  readonly image: string;
  readonly template: Template;
  readonly facts: HostFacts;
  readonly torpor: TorporClient;
  readonly ca: string;
  readonly #test: TestServer;
  readonly #transport: Transport;
  #mode: Mode;
  #keepLog = false;

  private constructor(
    test: TestServer,
    mode: Mode,
    made: Pick<BenchServer, "image" | "template" | "facts" | "torpor" | "ca">,
  ) {
    this.#test = test;
    this.#mode = mode;
    this.#transport = new Transport("lambda", { ...test.credentials, credentials: test.credentials });
    this.image = made.image;
    this.template = made.template;
    this.facts = made.facts;
    this.torpor = made.torpor;
    this.ca = made.ca;
  }

  static async start(signal: AbortSignal): Promise<BenchServer> {
    const test = await TestServer.start({ accelerator: "auto", "log-level": "info", ...MODES.usual });
    try {
      const { credentials } = test;
      const torpor = new TorporClient({ ...credentials, credentials });
      const facts = await torpor.host(signal);
      const image = await unlessAborted(buildImage(test, "bench", IMAGE), signal);
      const layout = new HostLayout(test.dataDir);
      const [templateId] = await readdir(layout.templates);
      const files = layout.template(templateId!);
      const template = { files, manifest: await readTemplateManifest(files.manifest) };
      const ca = await readFile(credentials.caFile, "utf8");
      return new BenchServer(test, "usual", { image, template, facts, torpor, ca });
    } catch (err) {
      await end(test, !signal.aborted);
      throw err;
    }
  }

  get dataDir(): string {
    return this.#test.dataDir;
  }

  get endpointPort(): number {
    return this.#test.credentials.endpointPort;
  }

  get pid(): number {
    return this.#test.pid;
  }

  /** Restarted, unless it is so already. */
  async mode(mode: Mode): Promise<void> {
    if (mode === this.#mode) return;
    this.#mode = mode;
    await this.stop();
    await this.restart();
  }

  async stop(): Promise<void> {
    await this.#test.stop();
  }

  async restart(): Promise<void> {
    await this.#test.start(MODES[this.#mode]);
  }

  /** The newest receipt of that operation. */
  async receipt(microvmId: string, operation: string): Promise<Receipt> {
    const receipts = await this.torpor.receipts(microvmId);
    const found = receipts.findLast((r) => r.operation === operation);
    if (!found) throw new Error(`${microvmId} has no receipt of a ${operation}`);
    return found;
  }

  /** POST below /torpor/v1. @throws ApiError */
  async extension(path: string, body: object, signal: AbortSignal): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    const request = { method: "POST", target: `/torpor/v1/${path}`, headers, body: JSON.stringify(body) };
    return await this.#transport.json(request, signal);
  }

  instanceFolder(microvmId: string): string {
    return new HostLayout(this.dataDir).instance(microvmId).path;
  }

  /** Ids of the microvms that have a process, found without asking the server. */
  async processes(): Promise<string[]> {
    return await this.#test.vmms();
  }

  /** The server's log survives the server. @returns where it is */
  keepLog(): string {
    this.#keepLog = true;
    return logFile(this.#test);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#test, this.#keepLog);
  }
}

/** The log, which lies outside of what is removed, is left only to whoever must find out what went wrong. */
async function end(test: TestServer, keepLog: boolean): Promise<void> {
  await test[Symbol.asyncDispose]();
  if (!keepLog) await rm(logFile(test), { force: true });
}

const logFile = (test: TestServer): string => join(tmpdir(), `${basename(test.dataDir)}.log`);

/** The work itself goes on until what it needs is gone; nobody waits for it. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => {});
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
