/**
 * The seam to a VMM. Below it are processes, device state and guest memory; above it are microvms. It knows no HTTP,
 * no SQL and nothing of the workload.
 */
export interface Driver {
  readonly facts: DriverFacts;
  /** A VMM that boots the guest kernel, running when this resolves. Its memory is a file shared with the host. */
  boot(spec: BootSpec, signal: AbortSignal): Promise<Vmm>;
  /**
   * A VMM that holds the snapshot's memory and devices, paused: no instruction has run.
   * @throws SnapshotError when the snapshot is incompatible or corrupt
   */
  restore(spec: RestoreSpec, signal: AbortSignal): Promise<Vmm>;
  /** The VMM that an earlier daemon left in `dir`; undefined unless pid, start time, name and socket agree. */
  adopt(dir: InstanceDir, signal: AbortSignal): Promise<Vmm | undefined>;
  /** Ends whatever VMM `dir` names, adoptable or not, and waits until it is gone. */
  destroy(dir: InstanceDir): Promise<void>;
}

/** What a snapshot is compatible with: all of it must be equal at restore. */
export interface DriverFacts {
  readonly accelerator: "kvm" | "tcg";
  readonly vmmVersion: string;
  readonly machine: string;
  readonly cpu: string;
}

/** Everything about one VMM in one place. */
export interface InstanceDir {
  /** The microvm's or build's id: it stands in the VMM's command line. */
  readonly id: string;
  /** Ours alone (0700). */
  readonly path: string;
  /** The only folder in which the VMM can make files; what it holds is the VMM's word, not ours. */
  readonly run: string;
  /** Disk layers: the folder is ours, the active layer belongs to the VMM, sealed ones are ours and read-only. */
  readonly disks: string;
}

/** Must be equal in a template and all its clones. */
export interface MachineShape {
  readonly memoryMib: number;
  readonly vcpus: number;
}

/** Network attachment and the identity under which the VMM runs in it. */
export interface Slot {
  readonly index: number;
  /** Path of the network namespace. */
  readonly netns: string;
  readonly tap: string;
  /** Address at which the host reaches the guest's agent. */
  readonly address: string;
  /** User and group id, of this slot alone. */
  readonly uid: number;
}

export interface BootSpec {
  readonly dir: InstanceDir;
  readonly shape: MachineShape;
  readonly slot: Slot;
  /** Raw root disk, written by the guest: in `dir.disks`, owned by the slot's uid. */
  readonly disk: string;
  readonly kernel: string;
  readonly initramfs: string;
}

export interface TemplateFiles {
  /** Folder that holds the three files. */
  readonly path: string;
  readonly memory: string;
  readonly devices: string;
  readonly disk: string;
}

export interface RestoreSpec {
  readonly dir: InstanceDir;
  readonly shape: MachineShape;
  readonly slot: Slot;
  readonly template: TemplateFiles;
  /** Sealed qcow2 layers in `dir.disks`, oldest first, between the template's disk and the active one. */
  readonly layers: readonly string[];
  /** Active qcow2 layer: in `dir.disks`, owned by the slot's uid. */
  readonly activeDisk: string;
  /** Absent: the template itself. */
  readonly snapshot?: { readonly devices: string; readonly memory: string; readonly memorySha256: string };
}

export interface MemoryDiff {
  readonly sha256: string;
  readonly bytes: number;
  readonly dataPages: number;
  readonly scannedPages: number;
  readonly samePages: number;
}

export interface Vmm {
  readonly pid: number;
  /** Resolves with what is known of the reason when the process has gone. */
  readonly ended: Promise<string>;
  /** vCPUs run. */
  run(): Promise<void>;
  /** vCPUs stand still and the disk is flushed. */
  pause(): Promise<void>;
  running(): Promise<boolean>;
  /** Bytes of memory that the VMM alone has: an upper bound of what a snapshot of it takes. */
  privateBytes(): Promise<number>;
  /** While paused: the device state, without memory, as a new file in `dir.run`. */
  saveDevices(): Promise<string>;
  /** While paused, of a restored VMM: the pages that differ from its template, durable at `out`. */
  saveMemory(out: string, signal: AbortSignal): Promise<MemoryDiff>;
  /** Lets go of the VMM, which runs on; a later daemon can adopt it. `ended` never resolves then. */
  detach(): void;
  /** SIGKILL, and waits until the process is gone. Everything that must be durable has been made so before. */
  kill(): Promise<void>;
}

export class SnapshotError extends Error {
  override readonly name = "SnapshotError";
  readonly reason: "incompatible" | "corrupt";
  constructor(reason: SnapshotError["reason"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}
