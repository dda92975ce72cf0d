import type { Receipt, Usage } from "@torpor/protocol";
import type { HostClient, HostFacts, LogLine } from "../host/host-client.ts";
import { notFound } from "../lib/errors.ts";
import type { Build } from "../store/image.ts";
import type { Store } from "../store/store.ts";
import type { AuditOperations } from "./audit/operations.ts";
import type { CheckpointOperations } from "./checkpoint/operations.ts";
import type { AccountOperations } from "./identity/account-operations.ts";
import type { KeyOperations } from "./identity/key-operations.ts";
import type { BuildLogs } from "./image/build-log.ts";
import { ownVersion } from "./image/version-operations.ts";
import type { LogReading } from "./logs/reading.ts";
import type { Fleet } from "./microvm/fleet.ts";
import type { LiveMicrovm } from "./microvm/live.ts";
import { ownMicrovm } from "./microvm/operations.ts";
import type { QuotaOperations } from "./quota/operations.ts";
import type { RequestContext } from "./request-context.ts";

export interface ExtensionDeps {
  readonly store: Pick<Store, "images" | "microvms" | "receipts">;
  readonly fleet: Fleet;
  readonly host: Pick<HostClient, "facts" | "logs" | "usage">;
  readonly buildLogs: BuildLogs;
  readonly checkpoints: CheckpointOperations;
  readonly quotas: QuotaOperations;
  readonly keys: KeyOperations;
  readonly accounts: AccountOperations;
  readonly audit: AuditOperations;
  readonly logs: LogReading;
}

/** What Torpor tells beyond AWS's operations. Foreign microvms and images are refused as there. */
export class ControlExtensions {
  readonly checkpoints: CheckpointOperations;
  readonly quotas: QuotaOperations;
  readonly keys: KeyOperations;
  readonly accounts: AccountOperations;
  readonly audit: AuditOperations;
  readonly logGroups: LogReading;
  readonly #deps: ExtensionDeps;

  constructor(deps: ExtensionDeps) {
    this.#deps = deps;
    this.checkpoints = deps.checkpoints;
    this.quotas = deps.quotas;
    this.keys = deps.keys;
    this.accounts = deps.accounts;
    this.audit = deps.audit;
    this.logGroups = deps.logs;
  }

  hostFacts(): HostFacts {
    return this.#deps.host.facts;
  }

  /** What the microvm's operations cost, oldest first. */
  async receipts(context: RequestContext, microvmId: string): Promise<readonly Receipt[]> {
    const { store } = this.#deps;
    return await store.receipts.of((await ownMicrovm(microvmId, context, this.#deps)).id);
  }

  /** What the microvm takes of its host now. */
  async usage(context: RequestContext, microvmId: string): Promise<Usage> {
    const { id, state } = await ownMicrovm(microvmId, context, this.#deps);
    if (state === "PENDING" || state === "TERMINATED")
      throw notFound(`MicroVM ${id} is ${state}: there is nothing of it on a host.`);
    return await this.#deps.host.usage(id);
  }

  /** What the workload wrote, oldest first; with `follow` also what it writes until the microvm or the signal ends. */
  async logs(
    context: RequestContext,
    microvmId: string,
    follow: boolean,
    signal: AbortSignal,
  ): Promise<AsyncIterable<LogLine>> {
    const { id } = await ownMicrovm(microvmId, context, this.#deps);
    const live = this.#deps.fleet.get(id);
    if (!follow || !live) return this.#deps.host.logs(id, { follow: false }, signal);
    return this.#follow(live, signal);
  }

  async *#follow(live: LiveMicrovm, signal: AbortSignal): AsyncGenerator<LogLine> {
    const over = new AbortController();
    const ended = async (): Promise<void> => {
      while (live.vm.state !== "TERMINATED") await live.changed(AbortSignal.any([signal, over.signal]));
    };
    ended().then(
      () => over.abort(),
      () => {}, // nobody reads any more
    );
    try {
      yield* this.#deps.host.logs(live.vm.id, { follow: true }, AbortSignal.any([signal, over.signal]));
    } catch (err) {
      if (!over.signal.aborted) throw err;
    } finally {
      over.abort();
    }
  }

  /** Text of the version's build log; with `follow` until the build ends. */
  async buildLog(
    context: RequestContext,
    imageArn: string,
    version: string,
    follow: boolean,
    signal: AbortSignal,
  ): Promise<AsyncIterable<string>> {
    const build = await this.#build(context, imageArn, version);
    return this.#deps.buildLogs.read(build.id, { follow }, signal);
  }

  /** What the version's build cost; undefined before it has succeeded. */
  async buildReceipt(context: RequestContext, imageArn: string, version: string): Promise<Receipt | undefined> {
    const build = await this.#build(context, imageArn, version);
    return (await this.#deps.store.receipts.of(build.id)).at(-1);
  }

  async #build(context: RequestContext, imageIdentifier: string, imageVersion: string): Promise<Build> {
    const { store } = this.#deps;
    const version = await ownVersion("GetMicrovmImageVersion", { imageIdentifier, imageVersion }, context, this.#deps);
    const build = (await store.images.builds(version.imageArn, version.version)).at(-1);
    if (!build) throw new Error(`version ${imageVersion} of ${imageIdentifier} has no build`);
    return build;
  }
}
