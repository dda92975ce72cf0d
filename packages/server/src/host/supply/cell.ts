import { chown, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import type { Driver, Slot, VmmDir } from "../driver/driver.ts";
import { createVmmDir, type HostLayout, newVmmId, resetRunDir } from "../layout.ts";
import type { Slots } from "../network/slot-pool.ts";

/** What one VMM takes of the host: a folder and a slot. */
export interface Cell {
  readonly dir: VmmDir;
  readonly slot: Slot;
}

/** Makes cells and takes them back. */
export class Cells {
  readonly #layout: HostLayout;
  readonly #slots: Slots;
  readonly #log: Log;

  constructor(layout: HostLayout, slots: Slots, log: Log) {
    this.#layout = layout;
    this.#slots = slots;
    this.#log = log;
  }

  /** @throws HostError `capacity` when there is no slot left */
  async create(): Promise<Cell> {
    const slot = await this.#slots.take();
    const dir = this.#layout.vmm(newVmmId());
    try {
      await createVmmDir(dir);
      await resetRunDir(dir, slot.uid);
      return { dir, slot };
    } catch (err) {
      await this.remove({ dir, slot });
      throw err;
    }
  }

  /** The cell of an adopted VMM. */
  existing(vmmId: string, slotIndex: number): Cell {
    return { dir: this.#layout.vmm(vmmId), slot: this.#slots.existing(slotIndex) };
  }

  /** Its VMM has ended. */
  async remove({ dir, slot }: Cell): Promise<void> {
    await rm(dir.path, { recursive: true, force: true });
    await this.#slots.release(slot);
  }

  /** As remove, for when nobody waits for it. */
  removeLater(cell: Cell): void {
    this.remove(cell).catch((err: unknown) => this.#log.error({ err, vmm: cell.dir.id }, "cell not removed"));
  }
}

/** The nth layer of a disk, counted from 1. Snapshots and cells name them alike. */
export const layerName = (number: number): string => `disk-${number}.qcow2`;

/** An empty layer that the cell's VMM may write. */
export async function createLayer(
  driver: Driver,
  { dir, slot }: Cell,
  number: number,
  diskBytes: number,
): Promise<string> {
  const path = join(dir.disks, layerName(number));
  await driver.createLayer(path, diskBytes);
  await chown(path, slot.uid, slot.uid);
  return path;
}
