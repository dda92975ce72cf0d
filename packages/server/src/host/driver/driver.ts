/**
 * The seam to a VMM. Below it are processes, device state and guest memory; above it are microvms. It knows no HTTP,
 * no SQL and nothing of the workload. Its promises are tests, which every driver runs: testing/contract.ts.
 *
 * A call whose signal aborts throws the signal's reason and leaves no process and no file; a call on a VMM whose process
 * ends, meanwhile or before, throws. What is made as a new file never takes the place of another one.
 */
export interface Driver extends AsyncDisposable {
  readonly facts: DriverFacts;
  /**
   * A VMM that boots the guest kernel, running when this resolves. Its memory is the file `memory` in `dir.run`, shared
   * with the host.
   */
  boot(spec: BootSpec, signal: AbortSignal): Promise<Vmm>;
  /**
   * A VMM process with the template's memory mapped privately and no disk yet, which waits for a snapshot: made ahead
   * of need, so that a restore spawns nothing.
   */
  prepare(spec: PrepareSpec, signal: AbortSignal): Promise<PreparedVmm>;
  /**
   * Reads a memory diff as a whole.
   * @throws SnapshotError `corrupt`
   */
  verifyMemory(path: string, sha256: string, signal: AbortSignal): Promise<void>;
  /** The VMM that an earlier daemon left in `dir`; undefined unless pid, start time, name and socket agree. */
  adopt(dir: VmmDir, signal: AbortSignal): Promise<Vmm | undefined>;
  /** Ends whatever VMM `dir` names, adoptable or not, and waits until it is gone. None, or no such folder: succeeds. */
  destroy(dir: VmmDir): Promise<void>;
  /** An empty layer of a disk, in the driver's own format, as a new file. @param diskBytes size that the guest sees */
  createLayer(path: string, diskBytes: number): Promise<void>;
  /** One durable layer, as a new file, that reads as these do, oldest first. */
  mergeLayers(out: string, diskBytes: number, layers: readonly string[], signal: AbortSignal): Promise<void>;
  /** Ends what the driver works with. VMMs run on. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a snapshot is compatible with: all of it must be equal at restore. */
export interface DriverFacts {
  /** For people. */
  readonly vmm: string;
  readonly accelerator: "kvm" | "tcg";
  readonly vmmVersion: string;
  readonly machine: string;
  readonly cpu: string;
}

/** Everything about one VMM process in one place. */
export interface VmmDir {
  /** It stands in the VMM's command line. */
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
  readonly dir: VmmDir;
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

export interface PrepareSpec {
  readonly dir: VmmDir;
  readonly shape: MachineShape;
  readonly slot: Slot;
  readonly template: TemplateFiles;
  /** Size of the disk that the guest sees. */
  readonly diskBytes: number;
}

/** A memory diff, and the digest of its index, which holds checksums of all that is in it. */
export interface MemoryFile {
  readonly path: string;
  readonly indexSha256: string;
}

export interface RestoreSpec {
  /** Sealed layers in `dir.disks`, oldest first, between the template's disk and the active one. */
  readonly layers: readonly string[];
  /** Active layer, empty: in `dir.disks`, owned by the slot's uid. */
  readonly activeDisk: string;
  /** Device state; the VMM gets a copy. */
  readonly devices: string;
  /** Memory diffs, oldest first; none: the template's memory as it is. */
  readonly memory: readonly MemoryFile[];
}

export interface PreparedVmm {
  readonly pid: number;
  readonly ended: Promise<string>;
  /**
   * The VMM holds the snapshot's memory, devices and disk, paused: no instruction has run. When it throws, the process
   * is ended.
   * @throws SnapshotError when it is the snapshot's fault: `incompatible` if the driver can tell that, else `corrupt`
   */
  restore(spec: RestoreSpec, signal: AbortSignal): Promise<Vmm>;
  kill(): Promise<void>;
}

export interface MemoryDiff {
  /** Of the whole file. */
  readonly sha256: string;
  readonly indexSha256: string;
  readonly bytes: number;
  readonly dataPages: number;
  readonly scannedPages: number;
  readonly samePages: number;
  /** Pages of the whole chain that count. */
  readonly livePages: number;
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
  /** Memory that the process alone has: an upper bound of what a snapshot of it takes. */
  privateBytes(): Promise<number>;
  /** Its share of the memory that it has in common with others, and its own: takes milliseconds. */
  pssBytes(): Promise<number>;
  /** While paused: the device state, without memory, as a new file in `dir.run`. */
  saveDevices(): Promise<string>;
  /**
   * While paused, of a restored VMM: the pages that differ from its template and the diffs before this one (oldest
   * first), durable at `out`.
   */
  saveMemory(out: string, parents: readonly string[], signal: AbortSignal): Promise<MemoryDiff>;
  /**
   * While paused: an image of the memory as it is now, in milliseconds whatever its size. The VMM may go on; the image
   * costs what it changes from then on, until it is disposed of.
   */
  freeze(signal: AbortSignal): Promise<FrozenMemory>;
  /**
   * What the guest writes to its disk goes into `next` from here on, an empty layer in `dir.disks` owned by the
   * slot's uid, and no more into the layer before it.
   */
  switchDisk(next: string): Promise<void>;
  /** Lets go of the VMM, which runs on; a later daemon can adopt it. `ended` never resolves then. */
  detach(): void;
  /** SIGKILL, and waits until the process is gone. Everything that must be durable has been made so before. */
  kill(): Promise<void>;
}

/** It is gone with its driver at the latest. */
export interface FrozenMemory extends AsyncDisposable {
  /** As Vmm.saveMemory, of the moment when it was frozen. */
  saveMemory(out: string, parents: readonly string[], signal: AbortSignal): Promise<MemoryDiff>;
}

export class SnapshotError extends Error {
  override readonly name = "SnapshotError";
  readonly reason: "incompatible" | "corrupt";
  constructor(reason: SnapshotError["reason"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}
