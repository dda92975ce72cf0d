import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../../../lib/atomic-file.ts";
import { errnoOf } from "../../../lib/errors.ts";
import type { BootSpec, Driver, DriverFacts, PreparedVmm, PrepareSpec, Slot, Vmm, VmmDir } from "../driver.ts";
import { createLayer, mergeLayers } from "./disk.ts";
import type { FakeMachine, FakeProcess } from "./machine.ts";
import { CloneMemory, PageFile, verifyDiff } from "./memory.ts";
import { Session } from "./session.ts";
import { FakeVm, inside } from "./vm.ts";
import { FakePrepared, FakeVmm } from "./vmm.ts";

export const FAKE_FACTS: DriverFacts = {
  vmm: "Fake",
  accelerator: "tcg",
  vmmVersion: "1.0.0",
  machine: "fake",
  cpu: "any",
};

/** What is needed to find a VMM again; it is there before the VMM is. */
const record = z.object({ pid: z.number(), startTime: z.string(), bootId: z.string() });
type Record = z.infer<typeof record>;

/**
 * A driver that keeps the interface's promises without a VM: processes are the machine's, which outlives the driver,
 * memory and disks are bytes in files, and a guest is whatever software the machine was made with.
 */
export class FakeDriver implements Driver {
  readonly facts: DriverFacts;
  readonly #machine: FakeMachine;
  readonly #session: Session;

  constructor(machine: FakeMachine, facts: Partial<DriverFacts> = {}) {
    this.#machine = machine;
    this.facts = { ...FAKE_FACTS, ...facts };
    this.#session = new Session(machine.faults);
  }

  /** The server that has this driver is killed: no call of it, nor of its VMMs, returns any more. Processes live on. */
  crash(): void {
    this.#session.crash();
  }

  boot(spec: BootSpec, signal: AbortSignal): Promise<Vmm> {
    return this.#session.call(async () => {
      signal.throwIfAborted();
      inside(spec.disk, spec.dir.disks);
      const path = join(spec.dir.run, "memory");
      await writeFile(path, "", { flag: "wx", mode: 0o600 });
      await truncate(path, spec.shape.memoryMib * 2 ** 20);
      const vm = await this.#spawn(spec, new PageFile(path, "r+"));
      try {
        await this.#session.meet("boot", vm.process, signal);
        vm.attach(new PageFile(spec.disk, "r+"));
        await vm.run();
        return new FakeVmm(vm, this.facts, this.#session);
      } catch (err) {
        vm.process.end("was ended by us");
        throw err;
      }
    });
  }

  prepare(spec: PrepareSpec, signal: AbortSignal): Promise<PreparedVmm> {
    return this.#session.call(async () => {
      signal.throwIfAborted();
      const vm = await this.#spawn(spec, new CloneMemory(spec.template.memory));
      try {
        await this.#session.meet("prepare", vm.process, signal);
        return new FakePrepared(vm, spec, this.facts, this.#session);
      } catch (err) {
        vm.process.end("was ended by us");
        throw err;
      }
    });
  }

  verifyMemory(path: string, sha256: string, signal: AbortSignal): Promise<void> {
    return this.#session.call(async () => {
      await this.#session.meet("verifyMemory", undefined, signal);
      await verifyDiff(path, sha256);
    });
  }

  adopt(dir: VmmDir, signal: AbortSignal): Promise<Vmm | undefined> {
    return this.#session.call(async () => {
      const process = await this.#named(dir);
      await this.#session.meet("adopt", undefined, signal);
      if (!process?.alive || (await contents(join(dir.path, SOCKET))) !== tokenOf(process)) return undefined;
      return process.vm && new FakeVmm(process.vm, this.facts, this.#session);
    });
  }

  destroy(dir: VmmDir): Promise<void> {
    return this.#session.call(async () => {
      const process = await this.#named(dir);
      await this.#session.meet("destroy", undefined, undefined);
      process?.end("was killed by SIGKILL");
    });
  }

  createLayer(path: string, diskBytes: number): Promise<void> {
    return this.#session.call(async () => {
      await this.#session.meet("createLayer", undefined, undefined);
      await createLayer(path, diskBytes);
    });
  }

  mergeLayers(out: string, diskBytes: number, layers: readonly string[], signal: AbortSignal): Promise<void> {
    return this.#session.call(() =>
      mergeLayers(out, diskBytes, layers, () => this.#session.meet("mergeLayers", undefined, signal)),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#session.end();
  }

  async #spawn(
    { dir, slot, shape }: { readonly dir: VmmDir; readonly slot: Slot; readonly shape: FakeVm["shape"] },
    memory: PageFile | CloneMemory,
  ): Promise<FakeVm> {
    const { bootId, software } = this.#machine;
    const process = this.#machine.spawn(dir.id);
    const vm = new FakeVm({ process, dir, shape, address: slot.address, memory, software });
    const { pid, startTime } = process;
    await writeFileAtomic(join(dir.path, RECORD), JSON.stringify({ pid, startTime, bootId } satisfies Record));
    await writeFile(join(dir.path, SOCKET), tokenOf(process));
    return vm;
  }

  /** The process that the folder's record means, if it is still the same one and says so of itself. */
  async #named(dir: VmmDir): Promise<FakeProcess | undefined> {
    const found = parse(await contents(join(dir.path, RECORD)));
    if (!found || found.bootId !== this.#machine.bootId) return undefined;
    const process = this.#machine.process(found.pid);
    return process?.startTime === found.startTime && process.name === dir.id ? process : undefined;
  }
}

const RECORD = "vmm.json";
/** By which a VMM is spoken to. Here: whose it is. */
const SOCKET = "vmm.sock";
const tokenOf = ({ pid, startTime }: FakeProcess): string => `${pid} ${startTime}`;

async function contents(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return undefined;
    throw err;
  }
}

function parse(text: string | undefined): Record | undefined {
  try {
    return text === undefined ? undefined : record.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
