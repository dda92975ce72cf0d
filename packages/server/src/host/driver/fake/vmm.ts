import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type DriverFacts,
  type FrozenMemory,
  type MemoryDiff,
  type PreparedVmm,
  type PrepareSpec,
  type RestoreSpec,
  SnapshotError,
  type Vmm,
} from "../driver.ts";
import { LayeredDisk } from "./disk.ts";
import type { Operation } from "./faults.ts";
import { CloneMemory, PAGE, type PageMap, readDiff, saveDiff } from "./memory.ts";
import type { Session } from "./session.ts";
import { checkDevices, encodeDevices, type FakeVm, inside } from "./vm.ts";

/** What a VMM takes beside its guest's memory. */
const OWN_BYTES = 1 << 20;

export class FakePrepared implements PreparedVmm {
  readonly pid: number;
  readonly ended: Promise<string>;
  readonly #vm: FakeVm;
  readonly #spec: PrepareSpec;
  readonly #facts: DriverFacts;
  readonly #session: Session;

  constructor(vm: FakeVm, spec: PrepareSpec, facts: DriverFacts, session: Session) {
    this.#vm = vm;
    this.#spec = spec;
    this.#facts = facts;
    this.#session = session;
    this.pid = vm.process.pid;
    this.ended = session.ended(vm.process);
  }

  restore(spec: RestoreSpec, signal: AbortSignal): Promise<Vmm> {
    return this.#session.call(async () => {
      try {
        await this.#load(spec, signal);
        return new FakeVmm(this.#vm, this.#facts, this.#session);
      } catch (err) {
        this.#vm.process.end("was ended by us");
        throw err;
      }
    });
  }

  kill(): Promise<void> {
    return this.#session.call(async () => this.#vm.process.end("was killed by SIGKILL"));
  }

  async #load({ layers, activeDisk, devices, memory }: RestoreSpec, signal: AbortSignal): Promise<void> {
    const { dir, shape, template, diskBytes } = this.#spec;
    for (const path of [...layers, activeDisk]) inside(path, dir.disks);
    signal.throwIfAborted();
    await checkDevices(devices, this.#facts, shape);
    for (const file of memory) this.#vm.clone.load(await readDiff(file));
    await this.#session.meet("restore", this.#vm.process, signal);
    let disk: LayeredDisk;
    try {
      disk = new LayeredDisk(template.disk, diskBytes, layers, activeDisk);
    } catch (err) {
      throw new SnapshotError("corrupt", `the VMM refused the disk: ${String(err)}`, { cause: err });
    }
    this.#vm.attach(disk);
  }
}

export class FakeVmm implements Vmm {
  readonly pid: number;
  readonly ended: Promise<string>;
  readonly #vm: FakeVm;
  readonly #facts: DriverFacts;
  readonly #session: Session;
  #detached = false;

  constructor(vm: FakeVm, facts: DriverFacts, session: Session) {
    this.#vm = vm;
    this.#facts = facts;
    this.#session = session;
    this.pid = vm.process.pid;
    this.ended = session.ended(vm.process).then((how) => (this.#detached ? new Promise<never>(() => {}) : how));
  }

  run(): Promise<void> {
    return this.#call("run", () => this.#vm.run());
  }

  pause(): Promise<void> {
    return this.#call("pause", async () => this.#vm.pause());
  }

  running(): Promise<boolean> {
    return this.#call("running", async () => this.#vm.running);
  }

  async privateBytes(): Promise<number> {
    this.#requireAlive();
    const { memory } = this.#vm;
    return OWN_BYTES + (memory instanceof CloneMemory ? memory.image().size * PAGE : 0);
  }

  async pssBytes(): Promise<number> {
    return await this.privateBytes();
  }

  saveDevices(): Promise<string> {
    return this.#call("saveDevices", async () => {
      this.#requirePaused();
      const out = join(this.#vm.dir.run, "devices");
      await rm(out, { force: true });
      await writeFile(out, encodeDevices(this.#facts, this.#vm.shape), { flag: "wx", mode: 0o600 });
      return out;
    });
  }

  saveMemory(out: string, parents: readonly string[], signal: AbortSignal): Promise<MemoryDiff> {
    return this.#session.call(async () => {
      this.#requireAlive();
      this.#requirePaused();
      return await this.#save(this.#vm.clone.image(), out, parents, signal);
    });
  }

  freeze(signal: AbortSignal): Promise<FrozenMemory> {
    return this.#call("freeze", async () => await this.#freeze(), signal);
  }

  switchDisk(next: string): Promise<void> {
    return this.#call("switchDisk", async () => {
      inside(next, this.#vm.dir.disks);
      this.#vm.switchDisk(next);
    });
  }

  detach(): void {
    this.#detached = true;
  }

  kill(): Promise<void> {
    return this.#session.call(async () => {
      await this.#session.meet("kill", undefined, undefined);
      this.#vm.process.end("was killed by SIGKILL");
    });
  }

  async #freeze(): Promise<FrozenMemory> {
    this.#requirePaused();
    const image = this.#vm.clone.image();
    const process = this.#session.image(this.#vm.process);
    return {
      saveMemory: (out, parents, signal) =>
        this.#session.call(async () => {
          if (!process.alive) throw new Error(`the frozen image ${await process.ended}`);
          return await this.#save(image, out, parents, signal);
        }),
      [Symbol.asyncDispose]: () => this.#session.call(async () => process.end("was thawed")),
    };
  }

  async #save(image: PageMap, out: string, parents: readonly string[], signal: AbortSignal): Promise<MemoryDiff> {
    signal.throwIfAborted();
    const halfWay = (): Promise<void> => this.#session.meet("saveMemory", this.#vm.process, signal);
    return await saveDiff(image, this.#vm.clone.template, out, parents, halfWay);
  }

  #call<T>(operation: Operation, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#session.call(async () => {
      await this.#session.meet(operation, this.#vm.process, signal);
      return await work();
    });
  }

  #requireAlive(): void {
    if (!this.#vm.process.alive) throw new Error("the VMM has ended");
  }

  #requirePaused(): void {
    if (this.#vm.running) throw new Error("its vCPUs run: what is saved now would be of no moment");
  }
}
