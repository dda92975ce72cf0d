import { chown, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import type { Driver, Slot, VmmDir } from "../driver/driver.ts";
import { createVmmDir, type HostLayout, newVmmId, resetRunDir } from "../layout.ts";
import type { EgressPolicy } from "../network/egress.ts";
import type { Slots } from "../network/slot-pool.ts";
import type { Traffic } from "../network/traffic.ts";

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

  /**
   * @param memoryMib the baseline of the guest that is to be in it
   * @throws HostError `capacity` when there is no slot left
   */
  async create(memoryMib: number): Promise<Cell> {
    const slot = await this.#slots.take(memoryMib);
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

  /** What the cell's guest may reach from here on: to be said before it runs. Most have it already. */
  async open({ slot }: Cell, egress: EgressPolicy | undefined): Promise<void> {
    await this.#slots.apply(slot, egress);
  }

  /** What its guest has sent and received. */
  async traffic({ slot }: Cell): Promise<Traffic | undefined> {
    return (await this.#slots.traffic()).get(slot.index);
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
