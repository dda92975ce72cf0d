import type { Driver, MachineShape, Slot, Vmm, VmmDir } from "../driver.ts";

/** What one VMM takes: a folder and a slot. */
export interface ContenderCell {
  readonly dir: VmmDir;
  readonly slot: Slot;
}

/** Notes that a guest's workload keeps. */
export interface Notes {
  /** In memory. */
  remember(name: string, text: string): Promise<void>;
  recall(name: string): Promise<string | undefined>;
  /** On its disk, durable. */
  write(name: string, text: string): Promise<void>;
  read(name: string): Promise<string | undefined>;
}

/** A process that has nothing to do with VMMs. */
export interface Bystander {
  readonly pid: number;
  readonly startTime: string;
  alive(): boolean;
  end(): void;
}

/** A driver on a machine, as the contract needs them. */
export interface Contender extends AsyncDisposable {
  /** A driver as each server makes one: VMMs of earlier ones are there. */
  driver(): Driver;
  readonly shape: MachineShape;
  readonly diskBytes: number;
  readonly kernel: string;
  readonly initramfs: string;
  /** A folder of ours, on the file system of the VMMs' folders. */
  readonly scratch: string;

  cell(): Promise<ContenderCell>;
  /** After its VMM has ended. */
  release(cell: ContenderCell): Promise<void>;
  /** A raw disk in `dir.disks` from which the workload can be started. */
  bootDisk(cell: ContenderCell): Promise<string>;
  /** Waits until the guest has booted, and starts its workload. */
  started(vmm: Vmm, slot: Slot): Promise<void>;
  notes(vmm: Vmm, slot: Slot): Notes;

  /** How many processes there are for this folder: a VMM, and frozen images of it. */
  processes(dir: VmmDir): Promise<number>;
  /** The id of the next VMM process for this folder, as soon as there is one. */
  spawned(dir: VmmDir): Promise<number>;
  kill(pid: number): void;
  /** Where the driver keeps which process it is: JSON with pid and startTime. */
  record(dir: VmmDir): string;
  socket(dir: VmmDir): string;
  bystander(): Promise<Bystander>;
}
