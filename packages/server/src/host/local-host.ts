import { access, rm } from "node:fs/promises";
import type { Duplex } from "node:stream";
import type { Receipt, RestorePointState, Usage } from "@torpor/protocol";
import { errnoOf } from "../lib/errors.ts";
import { KeyedMutex } from "../lib/mutex.ts";
import { giveCredentials } from "./agent/credentials.ts";
import {
  BuildError,
  type BuildObserver,
  type CheckpointResult,
  type CheckpointSpec,
  ConnectError,
  DamagedError,
  type HostClient,
  HostError,
  type HostFacts,
  type InstanceExit,
  type InventoryItem,
  type LaunchSpec,
  type LogLine,
  type LogOptions,
  type ResumeSpec,
  type Shell,
  ShellError,
  type ShellSpec,
  type SuspendSpec,
  type Template,
  type TemplateSpec,
  type TerminateSpec,
} from "./host-client.ts";
import { Instance, type InstanceDeps } from "./instance/instance.ts";
import { removeWorkloadLog, WorkloadLog } from "./instance/workload-log.ts";
import { type HostLayout, namesIn } from "./layout.ts";
import type { EgressPolicy } from "./network/egress.ts";
import type { Slots } from "./network/slot-pool.ts";
import { Scrub } from "./scrub.ts";
import type { Snapshot } from "./snapshot/snapshot.ts";
import { readVerification, restorePointState } from "./snapshot/verification.ts";
import { callUntilReady, type TemplateBuilder } from "./template/template-builder.ts";

export interface LocalHostDeps extends InstanceDeps {
  readonly facts: HostFacts;
  readonly layout: HostLayout;
  readonly slots: Slots;
  readonly builder: TemplateBuilder;
  /** After how many days restore points are read as a whole again; 0: never. */
  readonly scrubDays: number;
}

/** What the names of instances begin with that only a build's validate hook sees. */
const VALIDATION_PREFIX = "validation-";

/** The host in this process. What is asked of one microvm is done in the order of asking; different ones run side by side. */
export class LocalHost implements HostClient {
  readonly facts: HostFacts;
  readonly #deps: LocalHostDeps;
  readonly #instances = new Map<string, Instance>();
  readonly #mutex = new KeyedMutex<string>();
  readonly #listeners = new Set<(microvmId: string, exit: InstanceExit) => void>();
  readonly #scrub: Scrub;

  constructor(deps: LocalHostDeps) {
    this.#deps = deps;
    this.facts = deps.facts;
    this.#scrub = new Scrub({
      verifier: deps.verifier,
      clock: deps.clock,
      log: deps.log,
      days: deps.scrubDays,
      instances: () => [...this.#instances.values()],
      checkpoints: async () => (await this.checkpoints()).map((id) => deps.layout.checkpoint(id)),
    });
  }

  /** Takes over what an earlier daemon left, and makes the network ready. Before any other call. */
  async start(): Promise<void> {
    const { layout, slots, templates, driver, warm } = this.#deps;
    await templates.recover();
    for (const name of await namesIn(layout.checkpoints))
      if (name.endsWith(".tmp")) await rm(layout.checkpoint(name), { recursive: true, force: true });
    const held = new Map<string, number>();
    const policies = new Map<number, EgressPolicy | undefined>();
    for (const id of await layout.instanceIds()) {
      const instance = this.#instance(id);
      if (id.startsWith(VALIDATION_PREFIX)) {
        await rm(instance.dir.path, { recursive: true, force: true });
        continue;
      }
      instance.needsRecovery = true;
      const found = await instance.held();
      if (found) {
        held.set(found.vmm.id, found.vmm.slot);
        policies.set(found.vmm.slot, found.egress);
      }
      this.#instances.set(id, instance);
    }
    // VMMs of builds, and those that were kept warm: nobody is there who would take them.
    for (const id of await namesIn(layout.vmms)) {
      if (held.has(id)) continue;
      const dir = layout.vmm(id);
      await driver.destroy(dir);
      await rm(dir.path, { recursive: true, force: true });
    }
    await slots.start(policies);
    warm.start();
    this.#scrub.start();
  }

  async buildTemplate(spec: TemplateSpec, observer: BuildObserver, signal: AbortSignal): Promise<Template> {
    const template = await this.#deps.builder.build(spec, observer, signal);
    if (spec.validate) {
      try {
        observer.phase("validate");
        await this.#validate(spec, spec.validate, signal);
      } catch (err) {
        await this.deleteTemplate(spec.templateId);
        throw err;
      }
    }
    this.#deps.supply.want(spec.templateId);
    return template;
  }

  async deleteTemplate(templateId: string): Promise<void> {
    await this.#deps.supply.retire(templateId);
    await this.#deps.templates.remove(templateId);
    this.#deps.supply.forget(templateId);
  }

  async retireTemplate(templateId: string): Promise<void> {
    await this.#deps.supply.retire(templateId);
  }

  async offerTemplate(templateId: string): Promise<void> {
    this.#deps.supply.offer(templateId);
  }

  async templates(): Promise<readonly string[]> {
    return await this.#deps.templates.ids();
  }

  async launch(spec: LaunchSpec, signal: AbortSignal): Promise<Receipt> {
    return await this.#inTurn(spec.microvmId, signal, () => this.#launch(spec, signal));
  }

  async #launch(spec: LaunchSpec, signal: AbortSignal): Promise<Receipt> {
    if (this.#instances.has(spec.microvmId))
      throw new HostError("internal", `microvm ${spec.microvmId} is on this host already`);
    const instance = this.#instance(spec.microvmId);
    this.#instances.set(spec.microvmId, instance);
    try {
      const origin =
        spec.checkpointId === undefined ? undefined : await this.#checkpoint(spec.checkpointId, undefined, signal);
      return await instance.launch(spec, origin, signal);
    } catch (err) {
      this.#instances.delete(spec.microvmId);
      if (err instanceof DamagedError && spec.checkpointId !== undefined)
        this.#scrub.soon(this.#deps.layout.checkpoint(spec.checkpointId));
      throw err;
    }
  }

  async suspend(microvmId: string, spec: SuspendSpec, signal: AbortSignal): Promise<Receipt> {
    return await this.#inTurn(microvmId, signal, () => this.#require(microvmId).suspend(spec.hook, signal));
  }

  async resume(microvmId: string, spec: ResumeSpec, signal: AbortSignal): Promise<Receipt> {
    return await this.#inTurn(microvmId, signal, () => this.#require(microvmId).resume(spec, signal));
  }

  async terminate(microvmId: string, spec: TerminateSpec, signal: AbortSignal): Promise<Receipt> {
    return await this.#inTurn(microvmId, signal, async () => {
      const instance = this.#instances.get(microvmId) ?? this.#instance(microvmId);
      const receipt = await instance.terminate(spec.hook, signal);
      this.#instances.delete(microvmId);
      return receipt;
    });
  }

  async checkpoint(
    microvmId: string,
    checkpointId: string,
    spec: CheckpointSpec,
    signal: AbortSignal,
  ): Promise<CheckpointResult> {
    return await this.#inTurn(microvmId, signal, async () => {
      // One that is there already was finished by a call whose answer was lost.
      await this.deleteCheckpoint(checkpointId);
      const path = this.#deps.layout.checkpoint(checkpointId);
      const made = await this.#require(microvmId).checkpoint(path, spec, signal);
      this.#scrub.soon(path);
      return made;
    });
  }

  async deleteCheckpoint(checkpointId: string): Promise<void> {
    const path = this.#deps.layout.checkpoint(checkpointId);
    await this.#scrub.forget(path);
    await rm(path, { recursive: true, force: true });
  }

  async verifications(checkpointIds: readonly string[]): Promise<ReadonlyMap<string, RestorePointState>> {
    const here = new Set(await this.checkpoints());
    const states = checkpointIds
      .filter((id) => here.has(id))
      .map(async (id) => {
        return [id, restorePointState(await readVerification(this.#deps.layout.checkpoint(id)))] as const;
      });
    return new Map(await Promise.all(states));
  }

  async checkpoints(): Promise<readonly string[]> {
    return (await namesIn(this.#deps.layout.checkpoints)).filter((name) => !name.endsWith(".tmp"));
  }

  async rollback(microvmId: string, checkpointId: string, signal: AbortSignal): Promise<Receipt> {
    return await this.#inTurn(microvmId, signal, async () =>
      this.#require(microvmId).rollback(await this.#checkpoint(checkpointId, microvmId, signal), signal),
    );
  }

  async connect(microvmId: string, port: number, signal: AbortSignal): Promise<Duplex> {
    const instance = this.#instances.get(microvmId);
    if (!instance) throw new ConnectError("unreachable", `microvm ${microvmId} is not on this host`);
    return await instance.connect(port, signal);
  }

  async openShell(microvmId: string, spec: ShellSpec, signal: AbortSignal): Promise<Shell> {
    const instance = this.#instances.get(microvmId);
    if (!instance) throw new ShellError("unreachable", `microvm ${microvmId} is not on this host`);
    return await instance.openShell(spec, signal);
  }

  async setCredentials(microvmId: string, credentials: string, signal: AbortSignal): Promise<void> {
    await giveCredentials(this.#require(microvmId).agent(), credentials, signal);
  }

  async usage(microvmId: string): Promise<Usage> {
    return await this.#require(microvmId).usage();
  }

  async inventory(): Promise<readonly InventoryItem[]> {
    const signal = AbortSignal.timeout(60_000);
    const items: InventoryItem[] = [];
    for (const instance of [...this.#instances.values()]) {
      const state = instance.needsRecovery
        ? await this.#inTurn(instance.id, signal, () => instance.recover(signal))
        : instance.state;
      await instance.trimConsole();
      if (state) items.push({ microvmId: instance.id, state });
    }
    return items;
  }

  onExit(listener: (microvmId: string, exit: InstanceExit) => void): void {
    this.#listeners.add(listener);
  }

  async forget(microvmId: string): Promise<void> {
    if (this.#instances.has(microvmId)) throw new HostError("internal", `microvm ${microvmId} has not ended here`);
    await removeWorkloadLog(this.#deps.layout.logFile(microvmId));
  }

  async *logs(microvmId: string, options: LogOptions, signal: AbortSignal): AsyncGenerator<LogLine> {
    const instance = this.#instances.get(microvmId);
    if (instance) {
      yield* instance.logs.lines(options, signal);
      return;
    }
    const path = this.#deps.layout.logFile(microvmId);
    try {
      await access(path);
    } catch (err) {
      if (errnoOf(err) === "ENOENT") return;
      throw err;
    }
    yield* new WorkloadLog(path).lines({ ...options, follow: false }, signal);
  }

  async close(): Promise<void> {
    const { supply, warm, slots, driver } = this.#deps;
    await this.#scrub.close();
    await supply.close();
    await warm.close();
    for (const instance of this.#instances.values()) await instance.detach();
    await slots.close();
    await driver[Symbol.asyncDispose]();
  }

  /** Restores a copy and asks it; what it writes is thrown away. */
  async #validate(
    spec: TemplateSpec,
    hook: { readonly port: number; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const id = `${VALIDATION_PREFIX}${spec.templateId}`;
    const instance = this.#instance(id);
    try {
      const { templateId, egress } = spec;
      await instance.launch({ microvmId: id, templateId, ...(egress && { egress }) }, undefined, signal);
      await callUntilReady(instance.agent(), "validate", hook, signal);
    } catch (err) {
      if (err instanceof BuildError || signal.aborted) throw err;
      throw new BuildError("INTERNAL_PLATFORM_ERROR", "INTERNAL_PLATFORM_ERROR: the snapshot could not be validated", {
        cause: err,
      });
    } finally {
      await instance.terminate(undefined, AbortSignal.timeout(60_000));
    }
  }

  #instance(id: string): Instance {
    const { layout } = this.#deps;
    const logs = new WorkloadLog(layout.logFile(id));
    return new Instance(layout.instance(id), logs, this.#deps, (exit) => {
      for (const listener of this.#listeners) listener(id, exit);
    });
  }

  /** @throws the signal's reason when it aborts before the turn comes */
  async #inTurn<T>(microvmId: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return await this.#mutex.run(microvmId, async () => {
      signal.throwIfAborted();
      return await work();
    });
  }

  /**
   * @param owner the microvm that it must be of
   * @throws HostError `not_found`, DamagedError
   */
  async #checkpoint(checkpointId: string, owner: string | undefined, signal: AbortSignal): Promise<Snapshot> {
    if (!(await this.checkpoints()).includes(checkpointId))
      throw new HostError("not_found", `checkpoint ${checkpointId} is not on this host`);
    return await this.#deps.verifier.open(this.#deps.layout.checkpoint(checkpointId), owner, signal);
  }

  #require(microvmId: string): Instance {
    const instance = this.#instances.get(microvmId);
    if (!instance) throw new HostError("not_found", `microvm ${microvmId} is not on this host`);
    return instance;
  }
}
