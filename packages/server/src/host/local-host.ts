import { access } from "node:fs/promises";
import type { Duplex } from "node:stream";
import type { Receipt } from "@torpor/protocol";
import { errnoOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Driver } from "./driver/driver.ts";
import {
  BuildError,
  type BuildObserver,
  type CheckpointResult,
  ConnectError,
  type HostClient,
  HostError,
  type HostFacts,
  type InstanceExit,
  type InventoryItem,
  type LaunchSpec,
  type LogLine,
  type ResumeSpec,
  type SuspendSpec,
  type Template,
  type TemplateSpec,
  type TerminateSpec,
} from "./host-client.ts";
import { Instance } from "./instance.ts";
import type { HostLayout } from "./layout.ts";
import type { SlotPool } from "./network/slot-pool.ts";
import { callUntilReady, type TemplateBuilder } from "./template-builder.ts";
import type { TemplateStore } from "./template-store.ts";
import { WorkloadLog } from "./workload-log.ts";

export interface LocalHostDeps {
  readonly facts: HostFacts;
  readonly layout: HostLayout;
  readonly driver: Driver;
  readonly slots: SlotPool;
  readonly templates: TemplateStore;
  readonly builder: TemplateBuilder;
  readonly reservedDiskMib: number;
  readonly log: Log;
}

const BUILD_PREFIX = "build-";

/** The host in this process. Control calls it for one microvm at a time; different microvms run side by side. */
export class LocalHost implements HostClient {
  readonly facts: HostFacts;
  readonly #deps: LocalHostDeps;
  readonly #instances = new Map<string, Instance>();
  readonly #listeners = new Set<(microvmId: string, exit: InstanceExit) => void>();

  constructor(deps: LocalHostDeps) {
    this.#deps = deps;
    this.facts = deps.facts;
  }

  /** Removes what crashes left and makes the network ready. Before any other call. */
  async start(): Promise<void> {
    const { layout, slots, templates, driver } = this.#deps;
    await templates.recover();
    const held: number[] = [];
    for (const id of await layout.instanceIds()) {
      const instance = this.#instance(id);
      if (id.startsWith(BUILD_PREFIX)) {
        await driver.destroy(instance.dir);
        await instance.terminate(undefined, AbortSignal.timeout(60_000));
        continue;
      }
      instance.needsRecovery = true;
      const slot = await instance.heldSlot();
      if (slot !== undefined) held.push(slot);
      this.#instances.set(id, instance);
    }
    await slots.start(held);
  }

  async buildTemplate(spec: TemplateSpec, observer: BuildObserver, signal: AbortSignal): Promise<Template> {
    const template = await this.#deps.builder.build(spec, observer, signal);
    if (!spec.validate) return template;
    try {
      observer.phase("validate");
      await this.#validate(spec, spec.validate, signal);
      return template;
    } catch (err) {
      await this.deleteTemplate(spec.templateId);
      throw err;
    }
  }

  async deleteTemplate(templateId: string): Promise<void> {
    await this.#deps.templates.remove(templateId);
  }

  async launch(spec: LaunchSpec, signal: AbortSignal): Promise<Receipt> {
    if (this.#instances.has(spec.microvmId))
      throw new HostError("internal", `microvm ${spec.microvmId} is on this host already`);
    const instance = this.#instance(spec.microvmId);
    this.#instances.set(spec.microvmId, instance);
    try {
      return await instance.launch(spec, signal);
    } catch (err) {
      this.#instances.delete(spec.microvmId);
      throw err;
    }
  }

  async suspend(microvmId: string, spec: SuspendSpec, signal: AbortSignal): Promise<Receipt> {
    return await this.#require(microvmId).suspend(spec.hook, signal);
  }

  async resume(microvmId: string, spec: ResumeSpec, signal: AbortSignal): Promise<Receipt> {
    return await this.#require(microvmId).resume(spec.hook, signal);
  }

  async checkpoint(): Promise<CheckpointResult> {
    throw new HostError("internal", "not yet");
  }

  async deleteCheckpoint(): Promise<void> {
    throw new HostError("internal", "not yet");
  }

  async checkpoints(): Promise<readonly string[]> {
    return [];
  }

  async rollback(): Promise<Receipt> {
    throw new HostError("internal", "not yet");
  }

  async terminate(microvmId: string, spec: TerminateSpec, signal: AbortSignal): Promise<Receipt> {
    const instance = this.#instances.get(microvmId) ?? this.#instance(microvmId);
    const receipt = await instance.terminate(spec.hook, signal);
    this.#instances.delete(microvmId);
    return receipt;
  }

  async connect(microvmId: string, port: number, signal: AbortSignal): Promise<Duplex> {
    const instance = this.#instances.get(microvmId);
    if (!instance) throw new ConnectError("unreachable", `microvm ${microvmId} is not on this host`);
    return await instance.connect(port, signal);
  }

  async inventory(): Promise<readonly InventoryItem[]> {
    const signal = AbortSignal.timeout(60_000);
    const items: InventoryItem[] = [];
    for (const instance of [...this.#instances.values()]) {
      const state = instance.needsRecovery ? await instance.recover(signal) : instance.state;
      await instance.trimConsole();
      if (state) items.push({ microvmId: instance.id, state });
    }
    return items;
  }

  onExit(listener: (microvmId: string, exit: InstanceExit) => void): void {
    this.#listeners.add(listener);
  }

  async *logs(microvmId: string, options: { readonly follow: boolean }, signal: AbortSignal): AsyncGenerator<LogLine> {
    const instance = this.#instances.get(microvmId);
    if (instance) {
      yield* instance.logs.lines(options.follow, signal);
      return;
    }
    const path = this.#deps.layout.logFile(microvmId);
    try {
      await access(path);
    } catch (err) {
      if (errnoOf(err) === "ENOENT") return;
      throw err;
    }
    yield* new WorkloadLog(path).lines(false, signal);
  }

  async close(): Promise<void> {
    for (const instance of this.#instances.values()) await instance.detach();
    await this.#deps.slots.close();
  }

  /** Restores a copy and asks it; what it writes is thrown away. */
  async #validate(
    spec: TemplateSpec,
    hook: { readonly port: number; readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const id = `${BUILD_PREFIX}validate-${spec.templateId}`;
    const instance = this.#instance(id);
    try {
      await instance.launch({ microvmId: id, templateId: spec.templateId }, signal);
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

  #require(microvmId: string): Instance {
    const instance = this.#instances.get(microvmId);
    if (!instance) throw new HostError("not_found", `microvm ${microvmId} is not on this host`);
    return instance;
  }
}
