import { z } from "zod";
import { type DriverFacts, type MachineShape, SnapshotError, type VmmDir } from "../driver.ts";
import { LayeredDisk } from "./disk.ts";
import type { FakeProcess } from "./machine.ts";
import { CloneMemory, contents, type PageFile, sha256 } from "./memory.ts";
import type { GuestSoftware, Processor } from "./software.ts";

/** The machine inside a VMM process. It ends with it. */
export class FakeVm {
  readonly process: FakeProcess;
  readonly dir: VmmDir;
  readonly shape: MachineShape;
  readonly memory: PageFile | CloneMemory;
  readonly #address: string;
  readonly #software: GuestSoftware;
  #disk: PageFile | LayeredDisk | undefined;
  #processor: Processor | undefined;
  #running = false;

  constructor(parts: {
    readonly process: FakeProcess;
    readonly dir: VmmDir;
    readonly shape: MachineShape;
    readonly address: string;
    readonly memory: PageFile | CloneMemory;
    readonly software: GuestSoftware;
  }) {
    this.process = parts.process;
    this.dir = parts.dir;
    this.shape = parts.shape;
    this.memory = parts.memory;
    this.#address = parts.address;
    this.#software = parts.software;
    parts.process.vm = this;
    parts.process.onEnd(() => {
      this.#running = false;
      this.#processor?.stop();
      this.memory.close();
      this.#disk?.close();
    });
  }

  /** Its memory is what it is to be: from here on it can run. */
  attach(disk: PageFile | LayeredDisk): void {
    this.#disk = disk;
    this.#processor = this.#software.load({
      address: this.#address,
      memory: this.memory,
      disk,
      powerOff: () => this.process.end("ended with status 0"),
    });
  }

  get running(): boolean {
    return this.#running;
  }

  async run(): Promise<void> {
    if (!this.#processor) throw new Error("it waits for a snapshot");
    if (this.#running) return;
    this.#running = true;
    await this.#processor.run();
  }

  pause(): void {
    this.#running = false;
    this.#processor?.pause();
  }

  switchDisk(next: string): void {
    if (!(this.#disk instanceof LayeredDisk)) throw new Error("its disk has no layers");
    this.#disk.switchTo(next);
  }

  /** The memory of one that was restored. */
  get clone(): CloneMemory {
    if (!(this.memory instanceof CloneMemory)) throw new Error("a booted VMM has its memory in its own file");
    return this.memory;
  }
}

const deviceState = z.object({
  vmmVersion: z.string(),
  machine: z.string(),
  cpu: z.string(),
  memoryMib: z.number(),
  vcpus: z.number(),
});

/** What the devices are: of the same machine, and whole, or of no use. */
export function encodeDevices(facts: DriverFacts, { memoryMib, vcpus }: MachineShape): string {
  const { vmmVersion, machine, cpu } = facts;
  const state = JSON.stringify({ vmmVersion, machine, cpu, memoryMib, vcpus } satisfies z.infer<typeof deviceState>);
  return `${sha256(Buffer.from(state))} ${state}\n`;
}

/** @throws SnapshotError */
export async function checkDevices(path: string, facts: DriverFacts, shape: MachineShape): Promise<void> {
  const [digest, state] = (await contents(path)).toString("utf8").trimEnd().split(/ (.*)/s);
  if (state === undefined || sha256(Buffer.from(state)) !== digest)
    throw new SnapshotError("corrupt", `${path} is no device state`);
  const found = deviceState.parse(JSON.parse(state));
  const here = { ...facts, ...shape };
  for (const [what, value] of Object.entries(found))
    if (here[what as keyof typeof found] !== value)
      throw new SnapshotError("incompatible", `${path}: ${what} ${value}, here ${here[what as keyof typeof found]}`);
}

/** A VMM sees only what its jail binds. */
export function inside(path: string, folder: string): void {
  if (!path.startsWith(`${folder}/`)) throw new Error(`${path} is not in ${folder}`);
}
