import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Receipt, Usage } from "@torpor/protocol";
import { Cleanup } from "../../lib/cleanup.ts";
import { errnoOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import { Stopwatch } from "../../lib/stopwatch.ts";
import { Agent } from "../agent/agent.ts";
import { giveCredentials } from "../agent/credentials.ts";
import { freezeWorkload } from "../agent/freeze.ts";
import { assumeIdentity, KEEP_MACHINE_ID } from "../agent/identity.ts";
import { requireSpace } from "../disk-space.ts";
import {
  type CheckpointResult,
  type CheckpointSpec,
  ConnectError,
  type GuestCredentials,
  type GuestEgress,
  type HookCall,
  HookError,
  type HookName,
  HostError,
  type InstanceExit,
  type InventoryItem,
  type LaunchSpec,
  type ResumeSpec,
  type Shell,
  ShellError,
  type ShellSpec,
} from "../host-client.ts";
import { createInstanceDir, type InstanceDir } from "../layout.ts";
import { checkCompatible } from "../snapshot/manifest.ts";
import {
  cloneSnapshot,
  diskBytes,
  layersOf,
  memoryBytes,
  type Snapshot,
  type SnapshotParts,
  sealLayers,
  writeSnapshot,
} from "../snapshot/snapshot.ts";
import { openUntrusted } from "../snapshot/untrusted-file.ts";
import { createLayer } from "../supply/cell.ts";
import type { Clone, Supply } from "../supply/supply.ts";
import type { OpenTemplate } from "../template/template-store.ts";
import { ignoreRefusal } from "./asleep.ts";
import { type Capture, capture } from "./capture.ts";
import { type InstanceRecord, readRecord, writeRecord } from "./instance-record.ts";
import { RestorePoints } from "./restore-points.ts";
import { Sleep, type SleepDeps } from "./sleep.ts";
import { usageOf } from "./usage.ts";
import type { WorkloadLog } from "./workload-log.ts";
import { watchWorkload } from "./workload-watch.ts";

export interface InstanceDeps extends SleepDeps {
  readonly supply: Supply;
  readonly reservedDiskMib: number;
}

/** What an instance has while a VMM is there. */
interface Live extends Clone {
  readonly watching: AbortController;
}

const CONSOLE_MAX = 1 << 20;
const WATCH_AFTER_MS = 100;

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
  readonly #points: RestorePoints;
  readonly #sleep: Sleep;
  #exited = false;
  /** Found on disk, and not yet looked at: recover() comes before anything else. */
  needsRecovery = false;

  constructor(dir: InstanceDir, logs: WorkloadLog, deps: InstanceDeps, onExit: (exit: InstanceExit) => void) {
    this.id = dir.id;
    this.dir = dir;
    this.logs = logs;
    this.#deps = deps;
    this.#log = deps.log.child({ microvmId: dir.id });
    this.#points = new RestorePoints(dir.snapshots, dir.id, deps.verifier, this.#log);
    this.#sleep = new Sleep(deps, {
      points: this.#points,
      scratch: join(dir.path, "merged.qcow2"),
      moveTo: (number) => this.#becomeSuspended(number),
      log: this.#log,
    });
    this.#onExit = onExit;
  }

  /** @param origin the checkpoint that it continues from, instead of the template */
  async launch(spec: LaunchSpec, origin: Snapshot | undefined, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("launch");
    const { supply, limiter } = this.#deps;
    const template = await this.#deps.templates.open(spec.templateId);
    watch.mark("template");
    await using undo = new Cleanup(this.#log);
    await createInstanceDir(this.dir);
    undo.add("instance directory", () => rm(this.dir.path, { recursive: true, force: true }));
    const forked = origin && this.#fitting(origin);
    if (forked) {
      await this.#points.add(1, (path) => cloneSnapshot(forked, path, this.id));
      watch.bytesRead = memoryBytes(forked);
      watch.mark("origin");
    }

    const start = async (clone: Clone): Promise<Clone> => {
      undo.add("clone", () => supply.discard(clone));
      await this.#start(clone, randomBytes(16), spec, watch, signal);
      return clone;
    };
    // One that stands ready waits for nobody's turn.
    const primed = forked ? undefined : supply.takePrimed(template, spec.egress);
    const clone = primed
      ? await start(primed)
      : await limiter.run("urgent", signal, async () => {
          watch.mark("turn");
          return await start(
            forked ? await this.#restore(template, 1, signal) : await supply.clone(template, undefined, signal),
          );
        });
    if (spec.runHook) {
      const body = JSON.stringify({ microvmId: this.id, runHookPayload: spec.runHook.payload });
      await this.#hook(clone.agent, "run", spec.runHook, body, signal);
      watch.mark("run hook");
    }
    await this.#write({ ...this.#recordOf(spec, clone), phase: "running" });
    watch.mark("record");
    undo.release();
    this.logs.skipTo((origin ?? template).manifest.logSeq);
    this.#go(clone);
    return watch.receipt();
  }

  async suspend(hook: HookCall | undefined, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("suspend");
    const live = this.#requireLive();
    const record = this.#requireRecord();
    if (hook) {
      await this.#hook(live.agent, "suspend", hook, null, signal);
      watch.mark("suspend hook");
    }
    await this.#requireSpace(live);
    const number = record.snapshot + 1;
    await this.#deps.limiter.run("urgent", signal, async () => {
      watch.mark("turn");
      using thaw = new DisposableStack();
      thaw.use(await freezeWorkload(live.agent, live.vmm, this.#log, signal));
      watch.mark("freeze");
      await live.vmm.pause();
      watch.mark("pause");
      try {
        const parts: SnapshotParts = {
          ...(await this.#partsOf(live)),
          saveMemory: (out, parents) => live.vmm.saveMemory(out, parents, signal),
          saveDevices: () => live.vmm.saveDevices(),
        };
        // From here on it is suspended, whatever happens to us.
        const { manifest } = await this.#points.add(number, (path) => writeSnapshot(path, parts));
        watch.bytesWritten = (manifest.memory.at(-1)?.bytes ?? 0) + manifest.devices.bytes;
      } catch (err) {
        await live.vmm.run();
        if (err instanceof HostError || signal.aborted) throw err;
        throw new HostError("internal", "the snapshot could not be made; the microvm runs on", { cause: err });
      }
      thaw.move(); // the next identity thaws it
    });
    watch.mark("snapshot");
    await this.#becomeSuspended(number);
    watch.mark("record");
    this.#forget();
    await this.#sleep.begin(this.#requireRecord(), live);
    watch.mark("end");
    return watch.receipt();
  }

  async resume(spec: ResumeSpec, signal: AbortSignal): Promise<Receipt> {
    await this.#sleep.stopUpkeep();
    try {
      if (this.#record?.phase === "suspended") await this.#sleep.prepareToWake(this.#record, signal);
      return await this.#resume(spec, signal);
    } catch (err) {
      if (this.state === "suspended") this.#sleep.startUpkeep(this.#requireRecord());
      throw err;
    }
  }

  async #resume({ hook, ...spec }: ResumeSpec, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("resume");
    const record = this.#requireRecord();
    if (record.phase !== "suspended") throw new HostError("internal", `microvm ${this.id} is not suspended`);
    await using undo = new Cleanup(this.#log);
    const start = async (clone: Clone): Promise<Clone> => {
      undo.add("clone", () => this.#deps.supply.discard(clone));
      // Undone before the clone ends: a crash in between must find a suspended instance, not one whose VMM is dead.
      undo.add("record", () => this.#write(record));
      // Before the guest's first instruction: from then on its snapshot is not what it is.
      const next: InstanceRecord = { ...record, phase: "running", vmm: vmmOf(clone), layer: clone.layer };
      await this.#write({ ...next, resuming: true });
      await this.#start(clone, KEEP_MACHINE_ID, { ...spec, ...egressOf(record) }, watch, signal);
      await this.#write(next);
      return clone;
    };
    const standby = await this.#sleep.wake(record);
    const clone = standby
      ? await start(standby)
      : await this.#deps.limiter.run("urgent", signal, async () => {
          watch.mark("turn");
          const [template, { manifest }] = await Promise.all([
            this.#deps.templates.open(record.templateId),
            this.#points.usable(record.snapshot, signal).then((found) => this.#fitting(found)),
          ]);
          watch.bytesRead = memoryBytes({ manifest }) + manifest.devices.bytes;
          watch.mark("open snapshot");
          return await start(await this.#restore(template, record.snapshot, signal));
        });
    undo.release();
    const { agent } = this.#go(clone);
    if (hook) {
      await this.#hook(agent, "resume", hook, null, signal);
      watch.mark("resume hook");
    }
    return watch.receipt();
  }

  /** A restored clone continues as this instance. */
  async #start(
    clone: Clone,
    machineId: Uint8Array,
    { credentials, egress }: GuestCredentials & GuestEgress,
    watch: Stopwatch,
    signal: AbortSignal,
  ): Promise<void> {
    for (const what of clone.reused) watch.reused(what);
    watch.mark("restore");
    await this.#deps.cells.open(clone.cell, egress);
    watch.mark("network");
    await clone.vmm.run();
    watch.mark("continue");
    await assumeIdentity(clone.agent, this.id, machineId, signal);
    watch.mark("identity");
    if (credentials === undefined) return;
    try {
      await giveCredentials(clone.agent, credentials, signal);
    } catch (err) {
      if (!(err instanceof HostError)) throw err;
      this.#log.warn({ err }, "no credentials in the guest");
    }
    watch.mark("credentials");
  }

  /** A restore point at `path`; the instance goes on as it was. */
  async checkpoint(path: string, { previous }: CheckpointSpec, signal: AbortSignal): Promise<CheckpointResult> {
    await this.#sleep.stopUpkeep();
    try {
      return await this.#checkpoint(path, previous, signal);
    } finally {
      if (this.state === "suspended") this.#sleep.startUpkeep(this.#requireRecord());
    }
  }

  async #checkpoint(path: string, previous: boolean, signal: AbortSignal): Promise<CheckpointResult> {
    const watch = new Stopwatch("checkpoint");
    const live = this.#live;
    const number = this.#requireRecord().snapshot;
    const snapshot = previous
      ? await cloneSnapshot(await this.#points.takeEarlier(number, signal), path)
      : live
        ? await this.#checkpointLive(live, path, watch, signal)
        : await cloneSnapshot(await this.#points.usable(number, signal), path);
    await sealLayers(snapshot);
    watch.mark("snapshot");
    return {
      receipt: watch.receipt(),
      memoryBytes: memoryBytes(snapshot),
      diskBytes: await diskBytes(layersOf(snapshot)),
    };
  }

  /** The instance is as suspended at `target`; a running one is ended. */
  async rollback(target: Snapshot, signal: AbortSignal): Promise<Receipt> {
    const watch = new Stopwatch("rollback");
    const fitting = this.#fitting(target);
    // What it is now goes for good: so it is made sure that there is something to go to.
    await this.#deps.verifier.require(fitting, signal);
    watch.mark("verify");
    await this.#sleep.stopUpkeep();
    const record = this.#requireRecord();
    const number = record.snapshot + 1;
    await this.#points.add(number, (path) => cloneSnapshot(fitting, path));
    watch.mark("snapshot");
    const live = this.#live;
    this.#forget();
    if (live) await this.#deps.supply.discard(live);
    await this.#sleep.endStandby();
    this.logs.rewindTo(target.manifest.logSeq);
    await this.#becomeSuspended(number);
    this.#sleep.startUpkeep(this.#requireRecord());
    watch.mark("end");
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
    await this.#sleep.stopUpkeep();
    this.#forget();
    if (live) await this.#deps.supply.discard(live);
    else await this.#endVmm();
    await this.#sleep.endStandby();
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

  /** @throws ShellError */
  async openShell(spec: ShellSpec, signal: AbortSignal): Promise<Shell> {
    if (!this.#live || this.#exited) throw new ShellError("unreachable", `microvm ${this.id} does not run`);
    return await this.#live.agent.openShell(spec, signal);
  }

  /**
   * Finds out what a daemon that is no more left behind, and takes it over. Remnants of half-done steps are removed:
   * afterwards the directory says the same as the answer.
   */
  async recover(signal: AbortSignal): Promise<InventoryItem["state"]> {
    const state = await this.#recover(signal);
    this.needsRecovery = false; // not when it was broken off: what is there is not known yet
    return state;
  }

  async #recover(signal: AbortSignal): Promise<InventoryItem["state"]> {
    this.#record ??= await readRecord(this.dir);
    const record = this.#record;
    if (!record) return "broken";
    const newest = Math.max(record.snapshot, await this.#points.newest());
    if (newest > record.snapshot || record.phase === "suspended") {
      // A snapshot that appeared is the truth, whatever the record still says.
      await this.#endVmm();
      await this.#becomeSuspended(newest);
      await this.#points.tidy(newest);
      try {
        await sealLayers(await this.#points.open(newest));
      } catch (err) {
        this.#log.warn({ err }, "restore point not sealed"); // what it lacks is found by who reads it next
      }
      this.#sleep.startUpkeep(this.#requireRecord());
      return "suspended";
    }
    if (!record.vmm) return "broken";
    const cell = this.#deps.cells.existing(record.vmm.id, record.vmm.slot);
    const vmm = await this.#deps.driver.adopt(cell.dir, signal);
    if (!vmm) {
      await this.#endVmm();
      return "broken";
    }
    // A suspend or a resume that stopped half way: the guest is whole and goes on.
    if (!(await vmm.running())) await vmm.run();
    const agent = new Agent(cell.slot.address, vmm.ended);
    if (record.resuming) {
      try {
        await assumeIdentity(agent, this.id, KEEP_MACHINE_ID, signal);
      } catch (err) {
        agent.close();
        vmm.detach();
        signal.throwIfAborted();
        // As of any resume that fails.
        this.#log.warn({ err }, "resume not finished");
        await this.#endVmm();
        await this.#becomeSuspended(record.snapshot);
        this.#sleep.startUpkeep(this.#requireRecord());
        return "suspended";
      }
      await this.#write({ ...record, resuming: false });
    }
    await this.#points.tidy(record.snapshot);
    this.#go({ cell, vmm, agent, layer: record.layer, reused: [] });
    return "running";
  }

  async usage(): Promise<Usage> {
    const { snapshot: number } = this.#requireRecord();
    const restorePoint =
      number === 0
        ? null
        : {
            found: await this.#points.found(number),
            snapshot: await this.#points.open(number).catch(ignoreRefusal),
          };
    const cell = this.#live?.cell ?? this.#sleep.cell;
    const traffic = cell && (await this.#deps.cells.traffic(cell));
    return await usageOf(this.id, { live: this.#live, standby: this.#sleep.vmm, traffic, restorePoint });
  }

  /** Reads the restore point of one that sleeps again, unless that was done since. Gives way at once. */
  async scrub(since: Date, pace: number): Promise<void> {
    if (this.#record) await this.#sleep.scrub(this.#record, since, pace);
  }

  /** The guest writes its console as it likes, and the VMM appends without end: past the limit it begins anew. */
  async trimConsole(): Promise<void> {
    if (!this.#live) return;
    try {
      await using file = await openUntrusted(join(this.#live.cell.dir.run, "console.log"), "sync");
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

  /** The VMM that the record claims, and what its guest may reach, for the host at its start. */
  async held(): Promise<(GuestEgress & { readonly vmm: NonNullable<InstanceRecord["vmm"]> }) | undefined> {
    this.#record ??= await readRecord(this.dir);
    const record = this.#record;
    return record?.phase === "running" && record.vmm ? { vmm: record.vmm, ...egressOf(record) } : undefined;
  }

  /** Stops watching; the VMM runs on. One that stands by is the warm set's to end. */
  async detach(): Promise<void> {
    const live = this.#live;
    this.#forget();
    live?.vmm.detach();
    live?.agent.close();
    await this.#sleep.stopUpkeep();
    await this.logs.close();
  }

  /**
   * Paused only for what must be of one moment: device state, an image of the memory, a new disk layer. What the
   * checkpoint is made of is written while the guest runs on.
   */
  async #checkpointLive(live: Live, path: string, watch: Stopwatch, signal: AbortSignal): Promise<Snapshot> {
    await this.#requireSpace(live);
    const { manifest } = await this.#deps.templates.open(this.#requireRecord().templateId);
    const parts = await this.#partsOf(live);
    const layer = live.layer + 1;
    const next = await createLayer(this.#deps.driver, live.cell, layer, manifest.diskBytes);
    watch.mark("prepare");
    let taken: Capture;
    try {
      using _frozen = await freezeWorkload(live.agent, live.vmm, this.#log, signal);
      watch.mark("freeze");
      // Once the record says so, an adopted VMM is taken to write a layer that may still be empty: as true as before.
      taken = await capture(live.vmm, next, () => this.#write({ ...this.#requireRecord(), layer }), signal);
    } catch (err) {
      await this.#write({ ...this.#requireRecord(), layer: live.layer });
      await rm(next, { force: true });
      throw err;
    }
    watch.mark("pause");
    if (this.#live === live) this.#live = { ...live, layer };
    await using memory = taken.memory;
    const snapshot = await writeSnapshot(path, {
      ...parts,
      saveMemory: (out, parents) => memory.saveMemory(out, parents, signal),
      saveDevices: async () => taken.devices,
    });
    watch.bytesWritten = snapshot.manifest.memory.at(-1)?.bytes ?? 0;
    return snapshot;
  }

  async #partsOf(live: Live): Promise<Omit<SnapshotParts, "saveMemory" | "saveDevices">> {
    const record = this.#requireRecord();
    return {
      microvmId: this.id,
      templateId: record.templateId,
      facts: this.#deps.driver.facts,
      logSeq: await this.logs.lastSeq(),
      parent: record.snapshot > 0 ? await this.#points.open(record.snapshot) : undefined,
      disks: live.cell.dir.disks,
      layers: live.layer,
    };
  }

  /** @throws DamagedError, HostError */
  async #restore(template: OpenTemplate, number: number, signal: AbortSignal): Promise<Clone> {
    try {
      return await this.#deps.supply.clone(template, await this.#points.open(number), signal);
    } catch (err) {
      throw await this.#points.explain(number, err, signal);
    }
  }

  /** @throws HostError `incompatible` when it cannot be restored here */
  #fitting(snapshot: Snapshot): Snapshot {
    checkCompatible(`microvm ${this.id}`, snapshot.manifest.compatibility, this.#deps.driver.facts);
    return snapshot;
  }

  /** The snapshot is there and is the truth: that the record can not be written as well changes nothing. */
  async #becomeSuspended(snapshot: number): Promise<void> {
    const next: InstanceRecord = {
      ...this.#requireRecord(),
      phase: "suspended",
      vmm: null,
      resuming: false,
      snapshot,
      layer: 0,
    };
    this.#record = next;
    try {
      await writeRecord(this.dir, next);
    } catch (err) {
      this.#log.warn({ err }, "record not written");
    }
  }

  async #requireSpace(live: Live): Promise<void> {
    await requireSpace(this.dir.path, await live.vmm.privateBytes(), this.#deps.reservedDiskMib, "the snapshot");
  }

  async #write(record: InstanceRecord): Promise<void> {
    await writeRecord(this.dir, record);
    this.#record = record;
  }

  #recordOf(spec: LaunchSpec, clone: Clone): Omit<InstanceRecord, "phase"> {
    return {
      schema: 2,
      microvmId: this.id,
      templateId: spec.templateId,
      ...egressOf(spec),
      vmm: vmmOf(clone),
      resuming: false,
      snapshot: spec.checkpointId === undefined ? 0 : 1,
      layer: clone.layer,
    };
  }

  async #hook(agent: Agent, name: HookName, call: HookCall, body: string | null, signal: AbortSignal): Promise<void> {
    const failure = await agent.hook(name, { ...call, body, host: `localhost:${call.port}` }, signal);
    if (failure) throw new HookError(name, failure);
  }

  /** The instance is live: its output is collected and its end is noticed. */
  #go(clone: Clone): Live {
    const live: Live = { ...clone, watching: new AbortController() };
    this.#live = live;
    this.#exited = false;
    void live.vmm.ended.then((detail) => {
      if (this.#live?.vmm !== live.vmm) return;
      this.#forget();
      this.#deps.cells.removeLater(live.cell);
      this.#exit({ kind: "vmm", detail });
    });
    const exited = (exitCode: number): void => this.#exit({ kind: "workload", exitCode });
    const { signal } = live.watching;
    // The guest's first moments are for those who wait for it; what is written meanwhile, the agent keeps.
    void pause(this.#deps.clock, WATCH_AFTER_MS, signal)
      .then(() => watchWorkload(live.agent, this.logs, exited, this.#log, signal))
      .catch(() => {}); // it lives no more
    return live;
  }

  #exit(exit: InstanceExit): void {
    if (this.#exited) return;
    this.#exited = true;
    this.#log.info({ exit }, "instance ended");
    this.#onExit(exit);
  }

  /** There is no VMM any more that is ours to watch. */
  #forget(): void {
    this.#live?.watching.abort();
    this.#live = undefined;
  }

  /** Ends the VMM that an earlier daemon's record claims, adoptable or not. The others were ended at the start. */
  async #endVmm(): Promise<void> {
    const record = this.#record;
    if (record?.phase !== "running" || !record.vmm) return;
    const cell = this.#deps.cells.existing(record.vmm.id, record.vmm.slot);
    await this.#deps.driver.destroy(cell.dir);
    await this.#deps.cells.remove(cell);
    this.#record = { ...record, vmm: null };
  }

  #requireLive(): Live {
    if (!this.#live) throw new HostError("not_found", `microvm ${this.id} does not run on this host`);
    return this.#live;
  }

  #requireRecord(): InstanceRecord {
    if (!this.#record) throw new HostError("not_found", `microvm ${this.id} has no record on this host`);
    return this.#record;
  }
}

const egressOf = ({ egress }: GuestEgress): GuestEgress => (egress ? { egress } : {});
const vmmOf = ({ cell }: Clone): InstanceRecord["vmm"] => ({ id: cell.dir.id, slot: cell.slot.index });
