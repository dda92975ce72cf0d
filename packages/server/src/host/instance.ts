import { randomBytes } from "node:crypto";
import { chown, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Receipt } from "@torpor/protocol";
import { Cleanup } from "../lib/cleanup.ts";
import { errnoOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { Stopwatch } from "../lib/stopwatch.ts";
import { printable } from "../lib/text.ts";
import { Agent } from "./agent/agent.ts";
import { requireSpace } from "./disk-space.ts";
import type { Driver, InstanceDir, Slot, Vmm } from "./driver/driver.ts";
import { SnapshotError } from "./driver/driver.ts";
import {
  ConnectError,
  type HookCall,
  HookError,
  type HookName,
  HostError,
  type InstanceExit,
  type InventoryItem,
  type LaunchSpec,
} from "./host-client.ts";
import { type InstanceRecord, readRecord, writeRecord } from "./instance-record.ts";
import { createInstanceDir, resetRunDir } from "./layout.ts";
import { checkCompatible } from "./manifest.ts";
import type { SlotPool } from "./network/slot-pool.ts";
import { emptyQcow2 } from "./qcow2.ts";
import { openSnapshot, sealLayer, snapshotFiles, takeSnapshot } from "./snapshot.ts";
import type { OpenTemplate, TemplateStore } from "./template-store.ts";
import { openUntrusted } from "./untrusted-file.ts";
import type { WorkloadLog } from "./workload-log.ts";

export interface InstanceDeps {
  readonly driver: Driver;
  readonly slots: SlotPool;
  readonly templates: TemplateStore;
  readonly reservedDiskMib: number;
  readonly log: Log;
}

/** What an instance has while a VMM is there. */
interface Live {
  readonly vmm: Vmm;
  readonly slot: Slot;
  readonly agent: Agent;
  readonly watching: AbortController;
}

/** A restored guest answers within this; in emulation its first instructions are translated anew. */
const IDENTITY_MS = 30_000;
const CONSOLE_MAX = 1 << 20;
const KEEP_MACHINE_ID = new Uint8Array(16);

/** One microvm's incarnation on this host. Calls must not overlap; LocalHost sees to it. */
export class Instance {
  readonly id: string;
  readonly dir: InstanceDir;
  readonly logs: WorkloadLog;
  readonly #deps: InstanceDeps;
  readonly #log: Log;
  readonly #onExit: (exit: InstanceExit) => void;
  #record: InstanceRecord | undefined;
  #live: Live | undefined;
  #exited = false;
  /** Found on disk, and not yet looked at: recover() comes before anything else. */
  needsRecovery = false;

  constructor(dir: InstanceDir, logs: WorkloadLog, deps: InstanceDeps, onExit: (exit: InstanceExit) => void) {
    this.id = dir.id;
    this.dir = dir;
    this.logs = logs;
    this.#deps = deps;
    this.#log = deps.log.child({ microvmId: dir.id });
    this.#onExit = onExit;
  }

  async launch(spec: LaunchSpec, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("launch");
    const template = await this.#deps.templates.open(spec.templateId);
    watch.mark("template");
    await using undo = new Cleanup(this.#log);
    await createInstanceDir(this.dir);
    undo.add("instance directory", () => rm(this.dir.path, { recursive: true, force: true }));
    const slot = await this.#deps.slots.take();
    undo.add("slot", () => this.#deps.slots.release(slot));
    watch.mark("slot");

    const record: InstanceRecord = {
      schema: 1,
      microvmId: this.id,
      templateId: spec.templateId,
      phase: "launching",
      slot: slot.index,
      snapshot: 0,
      layers: [],
      activeDisk: diskName(1),
    };
    await writeRecord(this.dir, record);
    const vmm = await this.#restore(template, slot, record, undefined, signal);
    undo.add("vmm", () => vmm.kill());
    watch.mark("restore");
    const agent = new Agent(slot.address);
    await vmm.run();
    watch.mark("continue");
    await assumeIdentity(agent, this.id, randomBytes(16), signal);
    watch.mark("identity");
    if (spec.runHook) {
      const body = JSON.stringify({ microvmId: this.id, runHookPayload: spec.runHook.payload });
      await this.#hook(agent, "run", spec.runHook, body, signal);
      watch.mark("run hook");
    }
    this.#record = { ...record, phase: "running" };
    await writeRecord(this.dir, this.#record);
    watch.mark("record");
    undo.release();
    this.logs.skipTo(template.manifest.logSeq);
    this.#go({ vmm, slot, agent, watching: new AbortController() });
    return watch.receipt();
  }

  async suspend(hook: HookCall | undefined, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("suspend");
    const { vmm, slot, agent } = this.#requireLive();
    const record = this.#requireRecord();
    if (hook) {
      await this.#hook(agent, "suspend", hook, null, signal);
      watch.mark("suspend hook");
    }
    await requireSpace(this.dir.path, await vmm.privateBytes(), this.#deps.reservedDiskMib, "the snapshot");
    const number = record.snapshot + 1;
    const layers = [...record.layers, record.activeDisk!];
    await vmm.pause();
    watch.mark("pause");
    let next: InstanceRecord;
    try {
      const { manifest, dirtyBytes } = await takeSnapshot(
        { dir: this.dir, number, vmm, templateId: record.templateId, facts: this.#deps.driver.facts, layers },
        signal,
      );
      watch.bytesWritten = manifest.memory.bytes + manifest.devices.bytes;
      this.#log.debug({ dirtyBytes, number }, "snapshot written");
      watch.mark("snapshot");
      next = { ...record, phase: "suspended", slot: null, snapshot: number, layers, activeDisk: null };
      await writeRecord(this.dir, next); // from here on it is suspended, whatever happens to us
    } catch (err) {
      await rm(snapshotFiles(this.dir, number).path, { recursive: true, force: true });
      await vmm.run();
      if (err instanceof HostError || signal.aborted) throw err;
      throw new HostError("internal", "the snapshot could not be made; the microvm runs on", { cause: err });
    }
    watch.mark("record");
    this.#record = next;
    await this.#down();
    watch.mark("end");
    await sealLayer(join(this.dir.disks, record.activeDisk!));
    await this.#sweep(next);
    this.#releaseLater(slot);
    return watch.receipt();
  }

  async resume(hook: HookCall | undefined, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("resume");
    const record = this.#requireRecord();
    if (record.phase !== "suspended") throw new HostError("internal", `microvm ${this.id} is not suspended`);
    const template = await this.#deps.templates.open(record.templateId);
    const snapshot = await openSnapshot(this.dir, record.snapshot);
    checkCompatible(`microvm ${this.id}`, snapshot.manifest.compatibility, this.#deps.driver.facts);
    watch.bytesRead = snapshot.manifest.memory.bytes + snapshot.manifest.devices.bytes;
    watch.mark("open snapshot");

    await using undo = new Cleanup(this.#log);
    const slot = await this.#deps.slots.take();
    undo.add("slot", () => this.#deps.slots.release(slot));
    watch.mark("slot");
    const next: InstanceRecord = {
      ...record,
      phase: "running",
      slot: slot.index,
      activeDisk: diskName(record.layers.length + 1),
    };
    const vmm = await this.#restore(template, slot, next, snapshot, signal);
    undo.add("vmm", () => vmm.kill());
    watch.mark("restore");
    undo.add("record", () => writeRecord(this.dir, record));
    await writeRecord(this.dir, next); // before the first instruction: from here on the guest has moved on
    watch.mark("record");
    const agent = new Agent(slot.address);
    await vmm.run();
    watch.mark("continue");
    await assumeIdentity(agent, this.id, KEEP_MACHINE_ID, signal);
    watch.mark("identity");
    undo.release();
    this.#record = next;
    this.#go({ vmm, slot, agent, watching: new AbortController() });
    if (hook) {
      await this.#hook(agent, "resume", hook, null, signal);
      watch.mark("resume hook");
    }
    return watch.receipt();
  }

  async terminate(hook: HookCall | undefined, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("terminate");
    const live = this.#live;
    if (live && hook && !this.#exited) {
      await this.#hook(live.agent, "terminate", hook, null, signal).catch((err: unknown) =>
        this.#log.info({ err }, "terminate hook failed"),
      );
      watch.mark("terminate hook");
    }
    this.#exited = true; // what ends now ends because we end it
    if (live) {
      await this.#down();
      await this.#deps.slots.release(live.slot);
    } else {
      await this.#deps.driver.destroy(this.dir);
    }
    watch.mark("end");
    await rm(this.dir.path, { recursive: true, force: true });
    await this.logs.close();
    watch.mark("remove");
    return watch.receipt();
  }

  /** @throws ConnectError */
  async connect(port: number, signal: AbortSignal): Promise<Duplex> {
    if (!this.#live || this.#exited) throw new ConnectError("unreachable", `microvm ${this.id} does not run`);
    return await this.#live.agent.forward(port, signal);
  }

  /**
   * Finds out what a daemon that is no more left behind, and takes it over. Remnants of half-done steps are removed:
   * afterwards the directory says the same as the answer.
   */
  async recover(signal: AbortSignal): Promise<InventoryItem["state"]> {
    this.needsRecovery = false;
    this.#record ??= await readRecord(this.dir);
    const record = this.#record;
    if (!record || record.phase === "launching") return await this.#broken();
    if (record.phase === "suspended") {
      await this.#deps.driver.destroy(this.dir);
      for (const layer of record.layers) await sealLayer(join(this.dir.disks, layer));
      await this.#sweep(record);
      return "suspended";
    }
    const vmm = await this.#deps.driver.adopt(this.dir, signal);
    if (!vmm || record.slot === null) return await this.#broken();
    // A suspend or a resume that stopped half way: the guest is whole and goes on.
    if (!(await vmm.running())) await vmm.run();
    await this.#sweep(record);
    const slot = this.#deps.slots.existing(record.slot);
    this.#go({ vmm, slot, agent: new Agent(slot.address), watching: new AbortController() });
    return "running";
  }

  /** The guest writes its console as it likes, and the VMM appends without end: past the limit it begins anew. */
  async trimConsole(): Promise<void> {
    if (!this.#live) return;
    try {
      await using file = await openUntrusted(join(this.dir.run, "console.log"), "sync");
      if ((await file.stat()).size > CONSOLE_MAX) await file.truncate(0);
    } catch (err) {
      if (errnoOf(err) !== "ENOENT") this.#log.warn({ err }, "console not trimmed");
    }
  }

  /** Undefined while it is being launched: it is nobody's yet. */
  get state(): InventoryItem["state"] | undefined {
    if (this.#live) return "running";
    if (!this.#record) return undefined;
    return this.#record.phase === "suspended" ? "suspended" : "broken";
  }

  /** @throws HostError when it does not run */
  agent(): Agent {
    return this.#requireLive().agent;
  }

  /** The slot that the record claims, for the pool at start. */
  async heldSlot(): Promise<number | undefined> {
    this.#record ??= await readRecord(this.dir);
    return this.#record?.phase === "running" ? (this.#record.slot ?? undefined) : undefined;
  }

  /** Stops watching; the VMM runs on. */
  async detach(): Promise<void> {
    this.#live?.watching.abort();
    this.#live?.vmm.detach();
    this.#live = undefined;
    await this.logs.close();
  }

  /** Removes the snapshots and layers that the record does not name: what is superseded, or never came to be. */
  async #sweep(record: InstanceRecord): Promise<void> {
    const snapshots = join(this.dir.path, "snapshots");
    const wanted: readonly [string, ReadonlySet<string>][] = [
      [snapshots, new Set([String(record.snapshot)])],
      [this.dir.disks, new Set([...record.layers, record.activeDisk ?? ""])],
    ];
    for (const [folder, names] of wanted)
      for (const name of await namesIn(folder))
        if (!names.has(name)) await rm(join(folder, name), { recursive: true, force: true });
  }

  async #broken(): Promise<"broken"> {
    await this.#deps.driver.destroy(this.dir);
    return "broken";
  }

  async #restore(
    template: OpenTemplate,
    slot: Slot,
    record: InstanceRecord,
    snapshot: Awaited<ReturnType<typeof openSnapshot>> | undefined,
    signal: AbortSignal,
  ): Promise<Vmm> {
    const activeDisk = join(this.dir.disks, record.activeDisk!);
    await resetRunDir(this.dir, slot.uid);
    await rm(activeDisk, { force: true });
    await writeFile(activeDisk, emptyQcow2(template.manifest.diskBytes), { flag: "wx", mode: 0o600 });
    await chown(activeDisk, slot.uid, slot.uid);
    try {
      return await this.#deps.driver.restore(
        {
          dir: this.dir,
          shape: template.manifest.shape,
          slot,
          template: template.files,
          layers: record.layers.map((name) => join(this.dir.disks, name)),
          activeDisk,
          ...(snapshot && {
            snapshot: {
              devices: snapshot.files.devices,
              memory: snapshot.files.memory,
              memorySha256: snapshot.manifest.memory.sha256,
            },
          }),
        },
        signal,
      );
    } catch (err) {
      await rm(activeDisk, { force: true });
      if (err instanceof SnapshotError) throw new HostError(err.reason, err.message, { cause: err });
      throw err;
    }
  }

  async #hook(agent: Agent, name: HookName, call: HookCall, body: string | null, signal: AbortSignal): Promise<void> {
    const failure = await agent.hook(name, { ...call, body, host: `localhost:${call.port}` }, signal);
    if (failure) throw new HookError(name, failure);
  }

  /** The instance is live: its output is collected and its end is noticed. */
  #go(live: Live): void {
    this.#live = live;
    void live.vmm.ended.then((detail) => {
      if (this.#live !== live) return;
      this.#live = undefined;
      live.watching.abort();
      this.#releaseLater(live.slot);
      this.#exit({ kind: "vmm", detail });
    });
    void this.#collect(live);
  }

  async #collect(live: Live): Promise<void> {
    const { signal } = live.watching;
    while (!signal.aborted) {
      try {
        for await (const event of live.agent.watch(await this.logs.lastSeq(), signal)) {
          if (event.kind === "exit") this.#exit({ kind: "workload", exitCode: event.exitCode ?? 0 });
          else if (event.kind === "lost")
            await this.#line(event.seq, event.time, "stderr", `(${event.lines ?? 0} lines lost)`);
          else await this.#line(event.seq, event.time, event.kind, event.text ?? "");
        }
      } catch (err) {
        if (!signal.aborted) this.#log.debug({ err }, "watch interrupted");
      }
    }
  }

  async #line(seq: number, time: number, stream: "stdout" | "stderr", text: string): Promise<void> {
    await this.logs.append({ seq, time, stream, text: printable(text) });
  }

  #exit(exit: InstanceExit): void {
    if (this.#exited) return;
    this.#exited = true;
    this.#log.info({ exit }, "instance ended");
    this.#onExit(exit);
  }

  async #down(): Promise<void> {
    const live = this.#live;
    this.#live = undefined;
    live?.watching.abort();
    await live?.vmm.kill();
  }

  #releaseLater(slot: Slot): void {
    this.#deps.slots
      .release(slot)
      .catch((err: unknown) => this.#log.error({ err, slot: slot.index }, "slot not released"));
  }

  #requireLive(): Live {
    if (!this.#live) throw new HostError("not_found", `microvm ${this.id} does not run on this host`);
    return this.#live;
  }

  #requireRecord(): InstanceRecord {
    if (!this.#record) throw new HostError("not_found", `microvm ${this.id} is not on this host`);
    return this.#record;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return [];
    throw err;
  }
}

const diskName = (number: number): string => `disk-${number}.qcow2`;

/** Clock, entropy, names: everything that two clones must not share, before any traffic reaches them. */
export async function assumeIdentity(
  agent: Agent,
  microvmId: string,
  machineId: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(IDENTITY_MS)]);
  await agent.assumeIdentity({ unixMs: Date.now(), entropy: randomBytes(32), machineId, microvmId }, limited);
}
