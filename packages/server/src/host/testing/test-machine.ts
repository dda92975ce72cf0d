import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Receipt } from "@torpor/protocol";
import { type Config, loadConfig } from "../../config.ts";
import { type Clock, systemClock } from "../../lib/clock.ts";
import { createLog } from "../../lib/log.ts";
import { Stopwatch } from "../../lib/stopwatch.ts";
import { FakeAgent, NOTEBOOK_PORT } from "../agent/testing/fake-agent.ts";
import { Notebook } from "../agent/testing/notebook.ts";
import { type GuestArtifacts, loadGuestArtifacts } from "../artifacts.ts";
import type { Builder } from "../builder/builder.ts";
import type { DriverFacts } from "../driver/driver.ts";
import { FakeDriver } from "../driver/fake/fake-driver.ts";
import type { Faults } from "../driver/fake/faults.ts";
import { FakeMachine } from "../driver/fake/machine.ts";
import type { CheckpointResult, EgressPolicy, InstanceExit, LaunchSpec, TemplateSpec } from "../host-client.ts";
import { HostLayout } from "../layout.ts";
import type { LocalHost } from "../local-host.ts";
import { FakeNetwork, FakeSlots } from "../network/testing/fake-slots.ts";
import { startHost } from "../open-host.ts";

export const TEMPLATE = "template-1";
const forever = new AbortController().signal;

interface Options extends Partial<Config> {
  readonly clock?: Clock;
}

/** What outlives a server: a disk, processes and a network. All but VMs and containers is as in production. */
export class TestMachine implements AsyncDisposable {
  readonly agent = new FakeAgent();
  readonly layout: HostLayout;
  readonly #machine = new FakeMachine(this.agent);
  readonly #root: string;
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #artifacts: GuestArtifacts;
  readonly #network: FakeNetwork;
  readonly #servers: TestServer[] = [];

  private constructor(root: string, options: Options, artifacts: GuestArtifacts, network: FakeNetwork) {
    const { clock, ...settings } = options;
    this.#root = root;
    // What is kept warm comes and goes beside a test: those that are about it ask for it.
    const quiet = { poolSize: 0, standbySeconds: 0, reservedDiskMib: 0, warmMemoryMib: 1024 };
    this.#config = { ...loadConfig().config, ...quiet, ...settings, dataDir: join(root, "data") };
    this.#clock = clock ?? systemClock;
    this.layout = new HostLayout(this.#config.dataDir);
    this.#artifacts = artifacts;
    this.#network = network;
  }

  static async make(options: Options = {}): Promise<TestMachine> {
    const { config } = loadConfig();
    const artifacts = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
    const root = await mkdtemp(join(tmpdir(), "torpor-host-"));
    const machine = new TestMachine(root, options, artifacts, await FakeNetwork.claim());
    await machine.layout.create();
    return machine;
  }

  get faults(): Faults {
    return this.#machine.faults;
  }

  /** How many VMMs there are, frozen images included. */
  get vmms(): number {
    return this.#machine.alive().length;
  }

  /** A VMM is killed, and not by us. */
  kill(pid: number): void {
    this.#machine.process(pid)?.end("was killed by SIGKILL");
  }

  killAll(): void {
    for (const process of this.#machine.alive()) process.end("was killed by SIGKILL");
  }

  /** A server starts on what there is, as after any end of the one before. */
  async start(facts: Partial<DriverFacts> = {}): Promise<TestServer> {
    const driver = new FakeDriver(this.#machine, facts);
    const host = await startHost({
      config: this.#config,
      layout: this.layout,
      artifacts: this.#artifacts,
      driver,
      slots: new FakeSlots(this.#network),
      containers: new EmptyContainers(),
      clock: this.#clock,
      log: createLog("silent"),
    });
    const server = new TestServer(host, driver);
    this.#servers.push(server);
    return server;
  }

  /** A server with a template. */
  async startWithTemplate(): Promise<TestServer> {
    const server = await this.start();
    await server.build(TEMPLATE);
    return server;
  }

  /** What is in force in the slots whose guests reach something else than public addresses. */
  get policies(): EgressPolicy[] {
    return [...this.#network.policies.values()];
  }

  /** Slots cannot be given other rules from now on. */
  refusePolicies(error: Error): void {
    this.#network.refusal = error;
  }

  /** All that microvms take of the machine. */
  async left(): Promise<{ vmms: number; slots: number; folders: string[] }> {
    const folders = [];
    for (const folder of [this.layout.vms, this.layout.vmms, this.layout.checkpoints])
      folders.push(...(await readdir(folder)));
    return { vmms: this.vmms, slots: this.#network.made.size, folders };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server.close();
    this.killAll();
    await this.#network[Symbol.asyncDispose]();
    await rm(this.#root, { recursive: true });
  }
}

/** One server's host. */
export class TestServer {
  readonly host: LocalHost;
  readonly exits: { readonly microvmId: string; readonly exit: InstanceExit }[] = [];
  readonly #driver: FakeDriver;
  #over = false;

  constructor(host: LocalHost, driver: FakeDriver) {
    this.host = host;
    this.#driver = driver;
    host.onExit((microvmId, exit) => this.exits.push({ microvmId, exit }));
  }

  async build(templateId: string, more: Partial<TemplateSpec> = {}): Promise<void> {
    const spec = { templateId, accountId: "000000000000", artifactPath: "/dev/null", memoryMib: 512, environment: {} };
    await this.host.buildTemplate({ ...spec, capabilities: "default", ...more }, { log() {}, phase() {} }, forever);
  }

  async launch(microvmId: string, more: Partial<LaunchSpec> = {}, signal = forever): Promise<Receipt> {
    return await this.host.launch({ microvmId, templateId: TEMPLATE, ...more }, signal);
  }

  async suspend(microvmId: string, signal = forever): Promise<Receipt> {
    return await this.host.suspend(microvmId, {}, signal);
  }

  async resume(microvmId: string, signal = forever): Promise<Receipt> {
    return await this.host.resume(microvmId, {}, signal);
  }

  async checkpoint(microvmId: string, checkpointId: string, signal = forever): Promise<CheckpointResult> {
    return await this.host.checkpoint(microvmId, checkpointId, { previous: false }, signal);
  }

  async rollback(microvmId: string, checkpointId: string): Promise<Receipt> {
    return await this.host.rollback(microvmId, checkpointId, forever);
  }

  async terminate(...microvmIds: readonly string[]): Promise<void> {
    for (const id of microvmIds) await this.host.terminate(id, {}, forever);
  }

  /** As the reconciler sees it; undefined when it is not there. */
  async state(microvmId: string): Promise<string | undefined> {
    return (await this.host.inventory()).find((item) => item.microvmId === microvmId)?.state;
  }

  /** What the guest's workload does, over the stream that users have. */
  notes(microvmId: string): Notebook {
    return new Notebook(() => this.host.connect(microvmId, NOTEBOOK_PORT, forever));
  }

  /** It ends as it should. */
  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.host.close();
  }

  /** It is killed: what it was doing stays half done. For servers that keep nothing warm. */
  async crash(): Promise<void> {
    this.#over = true;
    this.#driver.crash();
    await filesAtRest();
    await this.host.close(); // nothing is left to do but to stop watching
  }
}

/** What a killed server had asked of the kernel still comes to its end. */
async function filesAtRest(): Promise<void> {
  for (let idle = 0; idle < 10; idle++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (process.getActiveResourcesInfo().some((what) => what.startsWith("FS") || what.startsWith("FILEHANDLE")))
      idle = 0;
  }
}

/** Builds an empty disk, from whatever there is. */
class EmptyContainers implements Builder {
  async recover(): Promise<void> {}

  async build({ outputPath, diskGib }: Parameters<Builder["build"]>[0]): ReturnType<Builder["build"]> {
    await writeFile(outputPath, "");
    await truncate(outputPath, diskGib * 2 ** 30);
    const container = {
      argv: ["notebook"],
      env: [],
      user: "",
      workdir: "/",
      exposedPorts: [NOTEBOOK_PORT],
      stopSignal: "SIGTERM",
    };
    return { container, rootfsBytes: 0, receipt: new Stopwatch("build").receipt() };
  }
}
