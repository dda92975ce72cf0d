import { chmod, chown, copyFile, link, mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Driver, MemoryDiff, MemoryFile, PreparedVmm, PrepareSpec, TemplateFiles, Vmm } from "../driver.ts";
import type { Contender, ContenderCell, Notes } from "./contender.ts";

/** A signal that nobody aborts. */
export const forever = new AbortController().signal;

/** What a VMM can be restored from, beside its template. */
export interface Saved {
  readonly devices: string;
  /** Oldest first. */
  readonly memory: readonly MemoryFile[];
  /** Oldest first; ours by now. */
  readonly layers: readonly string[];
  /** Of the newest diff. */
  readonly diff: MemoryDiff;
}

/** A VMM that was restored, and all that is known of it. */
export interface Restored {
  readonly cell: ContenderCell;
  readonly vmm: Vmm;
  readonly notes: Notes;
  /** Diffs that its memory came from. */
  readonly memory: readonly MemoryFile[];
  /** Of its disk, oldest first, the active one last. */
  readonly layers: readonly string[];
}

/** One template, and what tests make of it. Whatever they leave is ended by `clear`. */
export class Workbench {
  readonly contender: Contender;
  readonly driver: Driver;
  readonly template: TemplateFiles;
  readonly #cells = new Set<ContenderCell>();
  #folders = 0;

  private constructor(contender: Contender, driver: Driver, template: TemplateFiles) {
    this.contender = contender;
    this.driver = driver;
    this.template = template;
  }

  /** Boots a guest that remembers and has written that `origin` is `template`, and makes a template of it. */
  static async make(contender: Contender): Promise<Workbench> {
    const driver = contender.driver();
    const cell = await contender.cell();
    try {
      const { dir, slot } = cell;
      const disk = await contender.bootDisk(cell);
      const { shape, kernel, initramfs } = contender;
      const vmm = await driver.boot({ dir, slot, shape, disk, kernel, initramfs }, forever);
      await contender.started(vmm, slot);
      const notes = contender.notes(vmm, slot);
      await notes.remember("origin", "template");
      await notes.write("origin", "template");
      await vmm.pause();
      const path = join(contender.scratch, "template");
      await mkdir(path, { mode: 0o755 });
      const files = {
        path,
        memory: join(path, "memory"),
        devices: join(path, "devices"),
        disk: join(path, "disk.raw"),
      };
      await copyFile(await vmm.saveDevices(), files.devices);
      await vmm.kill();
      await rename(join(dir.run, "memory"), files.memory);
      await rename(disk, files.disk);
      for (const file of [files.memory, files.devices, files.disk]) await seal(file);
      return new Workbench(contender, driver, files);
    } finally {
      await driver.destroy(cell.dir);
      await contender.release(cell);
    }
  }

  async cell(): Promise<ContenderCell> {
    const cell = await this.contender.cell();
    this.#cells.add(cell);
    return cell;
  }

  prepareSpec({ dir, slot }: ContenderCell): PrepareSpec {
    const { shape, diskBytes } = this.contender;
    return { dir, slot, shape, template: this.template, diskBytes };
  }

  async prepared(): Promise<{ readonly cell: ContenderCell; readonly vmm: PreparedVmm }> {
    const cell = await this.cell();
    return { cell, vmm: await this.driver.prepare(this.prepareSpec(cell), forever) };
  }

  /** A new layer that this cell's VMM may write. */
  async layer({ dir, slot }: ContenderCell, number: number): Promise<string> {
    const path = layerOf(dir.disks, number);
    await this.driver.createLayer(path, this.contender.diskBytes);
    await chown(path, slot.uid, slot.uid);
    return path;
  }

  /** What a restore from these files is, in this cell. */
  async restoreSpec(cell: ContenderCell, from: Pick<Saved, "devices" | "memory" | "layers"> = this.#asTemplate()) {
    const layers = from.layers.map((_, n) => layerOf(cell.dir.disks, n + 1));
    for (const [n, layer] of from.layers.entries()) await link(layer, layers[n]!);
    const activeDisk = await this.layer(cell, layers.length + 1);
    return { layers, activeDisk, devices: from.devices, memory: from.memory };
  }

  /** Paused; of the template itself, if nothing else is given. */
  async restored(from?: Saved): Promise<Restored> {
    const { cell, vmm: prepared } = await this.prepared();
    const spec = await this.restoreSpec(cell, from);
    const vmm = await prepared.restore(spec, forever);
    const notes = this.contender.notes(vmm, cell.slot);
    return { cell, vmm, notes, memory: spec.memory, layers: [...spec.layers, spec.activeDisk] };
  }

  async running(from?: Saved): Promise<Restored> {
    const restored = await this.restored(from);
    await restored.vmm.run();
    return restored;
  }

  /** Saves a VMM that stands still, and ends it. */
  async saved(vm: Restored): Promise<Saved> {
    const saved = await this.savedWith(vm, await vm.vmm.saveDevices(), vm.vmm);
    await vm.vmm.kill();
    return { ...saved, layers: await this.seal(vm.layers) };
  }

  /** Of a VMM or an image of one. */
  async savedWith(
    { memory }: Pick<Restored, "memory">,
    devices: string,
    image: Pick<Vmm, "saveMemory">,
  ): Promise<Omit<Saved, "layers">> {
    const folder = await this.folder();
    const kept = join(folder, "devices");
    await copyFile(devices, kept);
    const path = join(folder, "memory.diff");
    const diff = await image.saveMemory(
      path,
      memory.map((file) => file.path),
      forever,
    );
    return { devices: kept, memory: [...memory, { path, indexSha256: diff.indexSha256 }], diff };
  }

  /** Takes layers that are written no more out of their VMM's hands. */
  async seal(layers: readonly string[]): Promise<string[]> {
    const folder = await this.folder();
    const sealed = layers.map((_, n) => layerOf(folder, n + 1));
    for (const [n, layer] of layers.entries()) {
      await link(layer, sealed[n]!);
      await seal(sealed[n]!);
    }
    return sealed;
  }

  async folder(): Promise<string> {
    const path = join(this.contender.scratch, `${this.#folders++}`);
    await mkdir(path, { mode: 0o700 });
    return path;
  }

  /** Ends and removes what a test has left. */
  async clear(): Promise<void> {
    const cells = [...this.#cells];
    this.#cells.clear();
    // One that cannot be ended must not keep the others alive.
    const ended = await Promise.allSettled(
      cells.map(async (cell) => {
        await this.driver.destroy(cell.dir);
        await this.contender.release(cell);
      }),
    );
    for (const one of ended) if (one.status === "rejected") throw one.reason;
  }

  #asTemplate(): Pick<Saved, "devices" | "memory" | "layers"> {
    return { devices: this.template.devices, memory: [], layers: [] };
  }
}

/** Named as the host names them. */
const layerOf = (folder: string, number: number): string => join(folder, `disk-${number}.qcow2`);

async function seal(path: string): Promise<void> {
  await chown(path, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
  await chmod(path, 0o444);
}
