import { rm } from "node:fs/promises";
import { Agent } from "../../agent/agent.ts";
import { createVmmDir, type HostLayout, newVmmId, resetRunDir } from "../../layout.ts";
import type { Slot, Vmm } from "../driver.ts";
import type { Contender } from "./contender.ts";

/** Folders of the layout, with slots of a pool. */
export function cellsOf(
  layout: HostLayout,
  slots: { take(memoryMib: number): Promise<Slot>; release(slot: Slot): Promise<void> },
): Pick<Contender, "cell" | "release"> {
  return {
    async cell() {
      const slot = await slots.take(512);
      const dir = layout.vmm(newVmmId());
      await createVmmDir(dir);
      await resetRunDir(dir, slot.uid);
      return { dir, slot };
    },
    async release({ dir, slot }) {
      await rm(dir.path, { recursive: true, force: true });
      await slots.release(slot);
    },
  };
}

/** The agent in each VMM's guest: one for as long as the VMM lives. */
export function agents(): (vmm: Vmm, slot: Slot) => Agent {
  const known = new WeakMap<Vmm, Agent>();
  return (vmm, slot) => {
    const agent = known.get(vmm) ?? new Agent(slot.address, vmm.ended);
    known.set(vmm, agent);
    return agent;
  };
}
