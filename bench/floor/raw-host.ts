import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Slot } from "../../packages/server/src/host/driver/driver.ts";
import { SlotPool } from "../../packages/server/src/host/network/slot-pool.ts";
import { createLog } from "../../packages/server/src/lib/log.ts";
import { run } from "../../packages/server/src/lib/run.ts";

/** The port that the bench's image listens on. */
export const WORKLOAD_PORT = 8080;
const MEMORY_MIB = 512;

/** What the floors need of the machine, without a server: a folder and network slots of their own. */
export class RawHost implements AsyncDisposable {
  readonly folder: string;
  readonly #slots: SlotPool;
  readonly #taken = new Set<Slot>();
  #folders = 0;

  private constructor(folder: string, slots: SlotPool) {
    this.folder = folder;
    this.#slots = slots;
  }

  static async open(): Promise<RawHost> {
    const folder = await mkdtemp(join(tmpdir(), "torpor-floor-"));
    const slots = new SlotPool({
      dataDir: folder,
      cidr: "100.64.0.0/16",
      uidBase: 210_000,
      max: 100,
      spare: 0,
      limits: { connections: { most: 10_000, perSecond: 10_000 } },
      log: createLog("error"),
    });
    await slots.start(new Map());
    return new RawHost(folder, slots);
  }

  async newFolder(): Promise<string> {
    const folder = join(this.folder, String(++this.#folders));
    await mkdir(folder);
    return folder;
  }

  /** A slot as the server makes them, in which the workload can be reached directly as well. */
  async takeSlot(): Promise<Slot> {
    const slot = await this.#slots.take(MEMORY_MIB);
    this.#taken.add(slot);
    const rules = [
      `add rule ip torpor prerouting iifname "veth0" tcp dport ${WORKLOAD_PORT} dnat to 169.254.0.2`,
      `add rule ip torpor forward iifname "veth0" oifname "tap0" tcp dport ${WORKLOAD_PORT} accept`,
    ];
    await inNetns(slot, ["nft", "-f", "-"], rules.join("\n"));
    return slot;
  }

  /** A slot for a process of the host instead of a guest: what listens in it can be reached from outside. */
  async takeBareSlot(): Promise<Slot> {
    const slot = await this.#slots.take(MEMORY_MIB);
    this.#taken.add(slot);
    await inNetns(slot, ["nft", "-f", "-"], `add rule ip torpor input tcp dport ${WORKLOAD_PORT} accept`);
    return slot;
  }

  async release(slot: Slot): Promise<void> {
    if (this.#taken.delete(slot)) await this.#slots.release(slot);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const slot of [...this.#taken]) await this.release(slot);
    await this.#slots.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function inNetns(slot: Slot, [program, ...args]: readonly [string, ...string[]], input: string): Promise<void> {
  await run("nsenter", [`--net=${slot.netns}`, program, ...args], { input: `${input}\n` });
}
