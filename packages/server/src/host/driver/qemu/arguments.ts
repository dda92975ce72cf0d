import { basename } from "node:path";
import type { MachineShape } from "../driver.ts";

/** Paths as the VMM sees them in its jail. */
export const JAIL = { run: "/vm", disks: "/disks", template: "/template", boot: "/boot" } as const;
/** The path by which the VMM knows a file in a folder that is bound into its jail. */
export function jailed(path: string, folder: string, target: string): string {
  if (!path.startsWith(`${folder}/`)) throw new Error(`${path} is not in ${folder}`);
  return target + path.slice(folder.length);
}

/** Descriptors that the helper hands to the VMM. */
const TAP_FD = 100;
const QMP_FD = 101;
/** One MAC for all guests: each is alone in its slot, and the template's own address is in its memory. */
const GUEST_MAC = "52:54:00:00:00:01";
/**
 * Bound of the emulator's code buffer in MiB: below 16 it is flushed again and again, above 32 nothing gets faster, and
 * unbounded it grows with the guest's life.
 */
const TRANSLATION_BUFFER_MIB = 64;

/** The disk's device; what is behind it can be changed until the guest runs. */
export const DISK_DEVICE = "/machine/peripheral/blk0";

export interface MachineArguments {
  readonly id: string;
  readonly accelerator: "kvm" | "tcg";
  readonly shape: MachineShape;
  /** `shared`: a template in the making. `private`: a clone, to which the file is read-only. */
  readonly memory: { readonly path: string; readonly mode: "shared" | "private" };
  /** Raw disk of a template in the making; a clone's is attached when it is known. */
  readonly disk: { readonly path: string } | { readonly bytes: number };
}

/** The machine: equal in templates and clones but for the memory's mode and the disk's files. */
export function machineArguments(m: MachineArguments): string[] {
  const mode = m.memory.mode === "shared" ? "share=on" : "share=off,readonly=on,rom=off";
  return [
    ...["-name", m.id, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-M", MACHINE, "-m", `${m.shape.memoryMib}M`, "-smp", String(m.shape.vcpus)],
    ...["-accel", m.accelerator === "kvm" ? "kvm" : `tcg,thread=multi,tb-size=${TRANSLATION_BUFFER_MIB}`],
    ...["-cpu", cpuModel(m.accelerator)],
    ...["-object", `memory-backend-file,id=m0,size=${m.shape.memoryMib}M,mem-path=${m.memory.path},${mode}`],
    ...["-global", "virtio-mmio.force-legacy=off"],
    // Both sides must have it: a clone's device state is loaded without the configuration section.
    ...["-global", "migration.send-configuration=off"],
    ...["-blockdev", JSON.stringify("path" in m.disk ? rawDisk(m.disk.path) : noDisk(m.disk.bytes))],
    ...["-device", `virtio-blk-device,id=blk0,drive=${FIRST_NODE}`],
    ...["-netdev", `tap,id=net0,fd=${TAP_FD}`, "-device", `virtio-net-device,netdev=net0,mac=${GUEST_MAC}`],
    ...["-chardev", `file,id=serial0,path=${JAIL.run}/console.log,append=on`, "-serial", "chardev:serial0"],
    ...["-chardev", `socket,id=qmp0,fd=${QMP_FD},server=on,wait=off`, "-mon", "chardev=qmp0,mode=control"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
  ];
}

/**
 * No PIT: between a guest kernel's first steps as an interrupt handler and its set-up of the APIC, a tick of it arrives
 * through a PIC that nobody has programmed, as vector 0, a division error: one emulated boot in six ended so. Its
 * clocks are the TSC and the local APIC.
 */
export const MACHINE = "microvm,memory-backend=m0,rtc=on,pit=off";
export const cpuModel = (accelerator: "kvm" | "tcg"): string => (accelerator === "kvm" ? "host" : "max");

export function bootArguments(boot: { kernel: string; initramfs: string; tscKhz: number }): string[] {
  // A panic ends the process: `panic=-1` reboots at once, `-no-reboot` turns that into an exit. Without the TSC's
  // frequency, calibration against the emulated timer fails on a busy host and one boot in four hangs.
  const cmdline = `console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=${boot.tscKhz}`;
  return ["-kernel", boot.kernel, "-initrd", boot.initramfs, "-append", cmdline];
}

export const INCOMING_ARGUMENTS: readonly string[] = ["-S", "-incoming", "defer"];

const FIRST_NODE = "first";

/** Options of `blockdev-add`. */
export type BlockNode = Readonly<Record<string, unknown>>;

/**
 * What lies in the page cache stays there: the files are local and nobody else writes them, and a clone that continues
 * would otherwise take the template's disk away from all others.
 */
const file = (filename: string): BlockNode => ({ driver: "file", filename, "drop-cache": false });
const rawDisk = (path: string): BlockNode => ({
  driver: "raw",
  "node-name": FIRST_NODE,
  discard: "unmap",
  file: file(path),
});
/** Stands in for the disk until the real one is attached: its size is fixed when the device is made. */
const noDisk = (bytes: number): BlockNode => ({
  driver: "null-co",
  "node-name": FIRST_NODE,
  size: bytes,
  "read-zeroes": true,
});

/**
 * The disk of a clone, as one node with everything below it. The chain is spelled out, so that no name inside an image
 * file is ever followed.
 * @param layers sealed ones, oldest first
 */
export function diskChain(base: string, layers: readonly string[], active: string): BlockNode {
  let below: BlockNode = { driver: "raw", "read-only": true, file: file(base) };
  for (const path of layers) below = { driver: "qcow2", "read-only": true, backing: below, file: file(path) };
  return { ...newLayer(active), backing: below };
}

/** An empty layer that is to be put above the disk. */
export function newLayer(path: string): BlockNode {
  return { driver: "qcow2", "node-name": nodeOf(path), discard: "unmap", backing: null, file: file(path) };
}

/** The block node that writes a layer: named after its file, so that whoever adopts the VMM knows it. */
export const nodeOf = (path: string): string => basename(path, ".qcow2");
