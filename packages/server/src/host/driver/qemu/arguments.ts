import type { MachineShape } from "../driver.ts";

/** Paths as the VMM sees them in its jail. */
export const JAIL = { run: "/vm", disks: "/disks", template: "/template", boot: "/boot" } as const;
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

export interface MachineArguments {
  readonly id: string;
  readonly accelerator: "kvm" | "tcg";
  readonly shape: MachineShape;
  /** `shared`: a template in the making. `private`: a clone, to which the file is read-only. */
  readonly memory: { readonly path: string; readonly mode: "shared" | "private" };
  readonly disk: DiskArguments;
}

export type DiskArguments =
  | { readonly kind: "raw"; readonly path: string }
  | {
      readonly kind: "overlay";
      readonly base: string;
      /** Oldest first. */
      readonly layers: readonly string[];
      readonly active: string;
    };

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
    ...diskArguments(m.disk),
    ...["-device", "virtio-blk-device,drive=disk0"],
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

/** The chain is spelled out, so that no name inside an image file is ever followed. */
function diskArguments(disk: DiskArguments): string[] {
  const node = (options: Record<string, unknown>): string[] => ["-blockdev", JSON.stringify(options)];
  const file = (filename: string): Record<string, unknown> => ({ driver: "file", filename });
  if (disk.kind === "raw")
    return node({ driver: "raw", "node-name": "disk0", discard: "unmap", file: file(disk.path) });
  const chain = node({ driver: "raw", "node-name": "base", "read-only": true, file: file(disk.base) });
  let below = "base";
  disk.layers.forEach((path, i) => {
    const name = `layer${i}`;
    chain.push(...node({ driver: "qcow2", "node-name": name, "read-only": true, backing: below, file: file(path) }));
    below = name;
  });
  chain.push(
    ...node({ driver: "qcow2", "node-name": "disk0", discard: "unmap", backing: below, file: file(disk.active) }),
  );
  return chain;
}
