import { randomUUID } from "node:crypto";
import { Duplex, PassThrough } from "node:stream";
import type { Receipt, RestorePointState, Usage } from "@torpor/protocol";
import {
  type BuildObserver,
  type CheckpointResult,
  type CheckpointSpec,
  ConnectError,
  type HookCall,
  HookError,
  type HookFailure,
  type HookName,
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
} from "../../host/host-client.ts";
import { ScriptShell } from "../../host/testing/script-shell.ts";
import { abortable } from "../../lib/abortable.ts";
import { FakeOutput } from "./fake-output.ts";

export interface FakeInstance {
  state: InventoryItem["state"];
  readonly templateId: string;
  /** Made anew by a launch only: a resumed instance has the one it had. */
  readonly boot: string;
  /** What a test had its guest remember: kept by a suspend, forked, rolled back. */
  memory?: string | undefined;
  /** What its metadata service tells. */
  credentials?: string | undefined;
  /** What it remembered at the restore point before its newest, while that is kept. */
  earlier?: { readonly memory: string | undefined };
}

/** What a checkpoint holds. */
export interface FakeCheckpoint {
  readonly microvmId: string;
  readonly templateId: string;
  readonly memory: string | undefined;
  /** Whether its files are as they were. */
  readonly restorePoint?: RestorePointState;
}

export type HostOperation = "launch" | "suspend" | "resume" | "terminate" | "checkpoint" | "rollback";
type Failing = HostOperation | "buildTemplate" | "deleteTemplate" | "retireTemplate" | "deleteCheckpoint";

/** What outlives a server: the machine, with its files and processes. */
export class FakeMachine {
  readonly instances = new Map<string, FakeInstance>();
  readonly templates = new Set<string>();
  readonly checkpoints = new Map<string, FakeCheckpoint>();
  readonly calls: string[] = [];
  /** Ids of ended microvms of which nothing is left here. */
  readonly forgotten: string[] = [];
  readonly hooks: string[] = [];
  readonly launches: LaunchSpec[] = [];
  readonly builds: TemplateSpec[] = [];
  readonly output = new FakeOutput();
  /** What no server may ever do: two operations at once on one microvm, a launch over an instance, … */
  readonly violations: string[] = [];
  /** Microvms whose end is the guest's or the machine's doing. */
  readonly doomed = new Set<string>();
  readonly busy = new Set<string>();
  /** Failures to come, an operation's next one first. */
  readonly failures: { readonly operation: Failing; readonly error: Error }[] = [];

  /** Answers of guests' hooks to come that are not 200. */
  readonly hookFailures: HookError[] = [];

  failHook(hook: HookName, failure: HookFailure): void {
    this.hookFailures.push(new HookError(hook, failure));
  }

  failNext(operation: Failing, error: Error): void {
    this.failures.push({ operation, error });
  }

  takeFailure(operation: Failing): Error | undefined {
    const index = this.failures.findIndex((failure) => failure.operation === operation);
    return index < 0 ? undefined : this.failures.splice(index, 1)[0]?.error;
  }

  /** Power off and on: no process is left, files are. */
  reboot(): void {
    for (const [id, instance] of this.instances)
      if (instance.state === "running") {
        instance.state = "broken";
        this.doomed.add(id);
      }
    this.busy.clear();
  }
}

/** Called at each named point of an operation; to hold it there, wait. */
export type AtPoint = (point: string) => Promise<void>;

/** A host as one server sees it. */
export class FakeHost implements HostClient {
  readonly facts: HostFacts = {
    guestMadeAt: new Date("2026-06-01T00:00:00.000Z"),
    architecture: "X86_64",
    isolation: "emulated",
    accelerator: "tcg",
    vmmVersion: "10.0",
    guestKernelVersion: "6.12",
    agentVersion: "1",
    burst: 1,
  };
  /** Templates that nothing is kept ready for; processes that were ready have died with the server before. */
  readonly retired = new Set<string>();
  readonly #machine: FakeMachine;
  readonly #at: AtPoint;
  readonly #listeners: ((id: string, exit: InstanceExit) => void)[] = [];

  constructor(machine: FakeMachine, at: AtPoint = async () => {}) {
    this.#machine = machine;
    this.#at = at;
  }

  async setCredentials(microvmId: string, credentials: string): Promise<void> {
    this.#expect(microvmId, "running").credentials = credentials;
  }

  async usage(microvmId: string): Promise<Usage> {
    const running = this.#machine.instances.get(microvmId)?.state === "running";
    return {
      microvmId,
      process: running ? "running" : "none",
      pssBytes: running ? 3 : null,
      privateBytes: running ? 2 : null,
      snapshotMemoryBytes: 1,
      diskBytes: 4,
      networkSentBytes: running ? 5 : null,
      networkReceivedBytes: running ? 6 : null,
      restorePoint: null,
    };
  }

  async buildTemplate(spec: TemplateSpec, observer: BuildObserver, signal: AbortSignal): Promise<Template> {
    this.#machine.builds.push(spec);
    observer.phase("container");
    observer.log("STEP 1/1: FROM scratch\n");
    this.#machine.templates.add(spec.templateId);
    await abortable(this.#at("buildTemplate:half"), signal);
    const error = this.#machine.takeFailure("buildTemplate");
    if (error) throw error;
    await this.#at("buildTemplate:done");
    return {
      templateId: spec.templateId,
      memorySnapshotBytes: 600,
      codeInstallBytes: 200,
      diskSnapshotBytes: 100,
      receipt: receipt("build"),
    };
  }

  async deleteTemplate(templateId: string): Promise<void> {
    const { templates, instances, checkpoints } = this.#machine;
    await this.#at("deleteTemplate:begin");
    const failure = this.#machine.takeFailure("deleteTemplate");
    if (failure) throw failure;
    for (const [id, user] of [...instances, ...checkpoints])
      if (user.templateId === templateId) this.#violation(`template ${templateId} is deleted, which ${id} needs`);
    templates.delete(templateId);
    this.retired.delete(templateId);
    await this.#at("deleteTemplate:done");
  }

  async retireTemplate(templateId: string): Promise<void> {
    await this.#at("retireTemplate");
    const failure = this.#machine.takeFailure("retireTemplate");
    if (failure) throw failure;
    this.retired.add(templateId);
  }

  async offerTemplate(templateId: string): Promise<void> {
    await this.#at("offerTemplate");
    this.retired.delete(templateId);
  }

  async templates(): Promise<readonly string[]> {
    await this.#at("templates");
    return [...this.#machine.templates];
  }

  launch(spec: LaunchSpec, signal: AbortSignal): Promise<Receipt> {
    const { instances, launches } = this.#machine;
    return this.#operation("launch", spec.microvmId, async () => {
      if (instances.has(spec.microvmId)) this.#violation(`launch over the instance of ${spec.microvmId}`);
      launches.push(spec);
      await this.#at("launch:begin");
      this.#fail("launch", spec.microvmId);
      const memory = spec.checkpointId && this.#checkpoint(spec.checkpointId).memory;
      const { templateId } = spec;
      if (!this.#machine.templates.has(templateId)) this.#violation(`launch from ${templateId}, which is not there`);
      const instance: FakeInstance = { state: "broken", templateId, boot: randomUUID(), memory };
      instances.set(spec.microvmId, instance);
      try {
        await abortable(this.#at("launch:half"), signal);
        instance.state = "running";
        instance.credentials = spec.credentials;
        await this.#at("launch:made");
        this.#hook("run", spec.runHook, spec.microvmId);
        signal.throwIfAborted();
        if (instance.state !== "running") throw new HostError("internal", "the instance ended during its launch");
      } catch (err) {
        instances.delete(spec.microvmId);
        throw err;
      }
      await this.#at("launch:done");
    });
  }

  suspend(id: string, spec: SuspendSpec, signal: AbortSignal): Promise<Receipt> {
    return this.#operation("suspend", id, async () => {
      const instance = this.#expect(id, "running");
      await this.#at("suspend:begin");
      this.#hook("suspend", spec.hook, id);
      await abortable(this.#at("suspend:stopped"), signal);
      this.#fail("suspend", id);
      if (instance.state !== "running") throw new HostError("internal", "the instance ended meanwhile");
      instance.state = "suspended";
      await this.#at("suspend:done");
    });
  }

  resume(id: string, spec: ResumeSpec, signal: AbortSignal): Promise<Receipt> {
    return this.#operation("resume", id, async () => {
      const instance = this.#expect(id, "suspended");
      await abortable(this.#at("resume:begin"), signal);
      this.#fail("resume", id);
      instance.state = "running";
      if (spec.credentials !== undefined) instance.credentials = spec.credentials;
      await this.#at("resume:made");
      this.#hook("resume", spec.hook, id);
      await this.#at("resume:done");
    });
  }

  checkpoint(
    id: string,
    checkpointId: string,
    { previous }: CheckpointSpec,
    signal: AbortSignal,
  ): Promise<CheckpointResult> {
    return this.#operation("checkpoint", id, async () => {
      const { checkpoints } = this.#machine;
      const instance = this.#expect(id, "running", "suspended");
      await abortable(this.#at("checkpoint:begin"), signal);
      this.#fail("checkpoint", id);
      if (instance.state === "broken") throw new HostError("internal", "the instance ended meanwhile");
      const { templateId } = instance;
      const memory = previous ? this.#previous(id, instance) : instance.memory;
      if (!checkpoints.has(checkpointId)) checkpoints.set(checkpointId, { microvmId: id, templateId, memory });
      await abortable(this.#at("checkpoint:made"), signal);
      await this.#at("checkpoint:done");
    }).then((made) => ({ receipt: made, memoryBytes: 600, diskBytes: 100 }));
  }

  async deleteCheckpoint(checkpointId: string): Promise<void> {
    await this.#at("deleteCheckpoint:begin");
    const failure = this.#machine.takeFailure("deleteCheckpoint");
    if (failure) throw failure;
    this.#machine.checkpoints.delete(checkpointId);
    await this.#at("deleteCheckpoint:done");
  }

  async checkpoints(): Promise<readonly string[]> {
    await this.#at("checkpoints");
    return [...this.#machine.checkpoints.keys()];
  }

  async verifications(checkpointIds: readonly string[]): Promise<ReadonlyMap<string, RestorePointState>> {
    return new Map(
      checkpointIds.flatMap((id) => {
        const found = this.#machine.checkpoints.get(id)?.restorePoint;
        return found ? [[id, found] as const] : [];
      }),
    );
  }

  rollback(id: string, checkpointId: string, signal: AbortSignal): Promise<Receipt> {
    return this.#operation("rollback", id, async () => {
      const instance = this.#expect(id, "running", "suspended", "broken");
      await abortable(this.#at("rollback:begin"), signal);
      this.#fail("rollback", id, instance.state === "broken");
      const checkpoint = this.#checkpoint(checkpointId);
      if (checkpoint.microvmId !== id) this.#violation(`rollback of ${id} to a checkpoint of ${checkpoint.microvmId}`);
      if (instance.state === "running") instance.state = "broken";
      await abortable(this.#at("rollback:ended"), signal);
      instance.state = "suspended";
      instance.memory = checkpoint.memory;
      await this.#at("rollback:done");
    });
  }

  terminate(id: string, spec: TerminateSpec): Promise<Receipt> {
    return this.#operation("terminate", id, async () => {
      await this.#at("terminate:begin");
      const instance = this.#machine.instances.get(id);
      if (instance?.state === "running" && spec.hook) this.#machine.hooks.push(`terminate ${id}`);
      this.#fail("terminate", id);
      this.#machine.instances.delete(id);
      this.#machine.output.end(id);
      await this.#at("terminate:done");
    });
  }

  async connect(id: string, port: number, signal: AbortSignal): Promise<Duplex> {
    signal.throwIfAborted();
    if (this.#machine.instances.get(id)?.state !== "running")
      throw new ConnectError("unreachable", `${id} does not run, port ${port}`);
    return Duplex.from(new PassThrough());
  }

  /** A shell that types back what it is typed. */
  async openShell(id: string, spec: ShellSpec, signal: AbortSignal): Promise<Shell> {
    signal.throwIfAborted();
    if (this.#machine.instances.get(id)?.state !== "running") throw new ShellError("unreachable", `${id} does not run`);
    const shell = new ScriptShell(spec);
    shell.write = async (bytes) => shell.says(Buffer.from(bytes));
    return shell;
  }

  async inventory(): Promise<readonly InventoryItem[]> {
    await this.#at("inventory");
    return [...this.#machine.instances].map(([microvmId, { state }]) => ({ microvmId, state }));
  }

  onExit(listener: (microvmId: string, exit: InstanceExit) => void): void {
    this.#listeners.push(listener);
  }

  async forget(id: string): Promise<void> {
    await this.#at("forget:begin");
    if (this.#machine.instances.has(id)) this.#violation(`${id} is forgotten, and there still`);
    this.#machine.forgotten.push(id);
    await this.#at("forget:done");
  }

  async *logs(id: string, options: LogOptions, signal: AbortSignal): AsyncIterable<LogLine> {
    for await (const line of this.#machine.output.lines(id, options, signal)) {
      await this.#at("logs:line");
      yield line;
    }
  }

  async close(): Promise<void> {}

  /** The workload of a running instance ends by itself. */
  exit(id: string, exit: InstanceExit): void {
    const instance = this.#machine.instances.get(id);
    if (instance?.state !== "running") return;
    instance.state = "broken";
    this.#machine.doomed.add(id);
    for (const listener of this.#listeners) listener(id, exit);
  }

  async #operation(operation: HostOperation, id: string, work: () => Promise<void>): Promise<Receipt> {
    this.#machine.calls.push(`${operation} ${id}`);
    if (this.#machine.busy.has(id)) this.#violation(`${operation} of ${id} during another operation`);
    this.#machine.busy.add(id);
    try {
      await work();
    } finally {
      this.#machine.busy.delete(id);
    }
    return receipt(operation);
  }

  #fail(operation: HostOperation, id: string, fatal = operation === "launch"): void {
    const error = this.#machine.takeFailure(operation);
    if (!error) return;
    if (fatal) this.#machine.doomed.add(id);
    throw error;
  }

  #hook(name: HookName, call: HookCall | undefined, id: string): void {
    if (!call) return;
    this.#machine.hooks.push(`${name} ${id}`);
    const { hookFailures } = this.#machine;
    const index = hookFailures.findIndex(({ hook }) => hook === name);
    const [failure] = index < 0 ? [] : hookFailures.splice(index, 1);
    if (!failure) return;
    this.#machine.doomed.add(id);
    throw failure;
  }

  #expect(id: string, ...states: InventoryItem["state"][]): FakeInstance {
    const instance = this.#machine.instances.get(id);
    if (instance && states.includes(instance.state)) return instance;
    // An instance may end by itself at any time; only an operation that never made sense is the server's fault.
    if (!this.#machine.doomed.has(id)) this.#violation(`${id} is ${instance?.state ?? "nothing"}, not ${states}`);
    throw new HostError("not_found", `${id} is not ${states}`);
  }

  /** A server never uses a checkpoint that it has deleted. */
  #previous(id: string, { earlier }: FakeInstance): string | undefined {
    if (!earlier) throw new HostError("not_found", `microvm ${id} has no earlier restore point that is whole`);
    return earlier.memory;
  }

  #checkpoint(id: string): FakeCheckpoint {
    const checkpoint = this.#machine.checkpoints.get(id);
    if (checkpoint) return checkpoint;
    this.#violation(`there is no checkpoint ${id}`);
    throw new HostError("not_found", `there is no checkpoint ${id}`);
  }

  #violation(text: string): void {
    this.#machine.violations.push(text);
  }
}

function receipt(operation: string): Receipt {
  return {
    operation,
    startedAt: "2026-09-15T14:30:00.000Z",
    totalMs: 1,
    phases: [],
    bytesRead: 0,
    bytesWritten: 0,
    reused: [],
  };
}
