import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Slot } from "../../src/host/driver/driver.ts";
import type { EgressPolicy } from "../../src/host/network/egress.ts";
import type { SlotLimits } from "../../src/host/network/limits.ts";
import { type HeldSlots, SlotPool } from "../../src/host/network/slot-pool.ts";
import type { Traffic } from "../../src/host/network/traffic.ts";
import { createLog } from "../../src/lib/log.ts";
import { answerCalls } from "./remote.ts";

/** A host's slots, in a namespace that stands for the host's own network. */
const [dataDir = "", cidr = "", resolver = ""] = process.argv.slice(2);
let pool: SlotPool;

const calls = {
  async start(limits: SlotLimits, held: HeldSlots, spare: number): Promise<void> {
    const resolvConf = join(dataDir, "resolv.conf");
    writeFileSync(resolvConf, resolver ? `nameserver ${resolver}\n` : "");
    const log = createLog(process.env.TORPOR_LAB_LOG === "1" ? "debug" : "silent");
    pool = new SlotPool({
      dataDir: join(dataDir, "data"),
      cidr,
      uidBase: 210_000,
      max: 20,
      spare,
      limits,
      resolverFiles: [resolvConf],
      log,
    });
    await pool.start(held);
  },
  take: (memoryMib: number): Promise<Slot> => pool.take(memoryMib),
  apply: (slot: Slot, policy: EgressPolicy | undefined): Promise<void> => pool.apply(slot, policy),
  release: (slot: Slot): Promise<void> => pool.release(slot),
  traffic: (): Promise<ReadonlyMap<number, Traffic>> => pool.traffic(),
  close: (): Promise<void> => pool.close(),
};
export type HostCalls = typeof calls;
answerCalls(calls);
