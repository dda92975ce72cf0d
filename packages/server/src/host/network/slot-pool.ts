import { createHash } from "node:crypto";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import { run } from "../../lib/run.ts";
import type { Slot } from "../driver/driver.ts";
import { HostError } from "../host-client.ts";
import { upstreamResolver } from "./resolver.ts";
import { hostRules, slotRules } from "./rules.ts";

const NETNS_DIR = "/run/netns";
const TAP = "tap0";
/** The same in every slot: the template's ARP cache remembers it, and another one costs up to 40 s of silence. */
const TAP_MAC = "02:00:00:00:00:01";
const GUEST_MAC = "52:54:00:00:00:01";

export interface SlotPoolOptions {
  /** Names the slots of this data directory, so that two servers on one machine do not take each other's. */
  readonly dataDir: string;
  /** `a.b.0.0/16`: a /30 a slot. */
  readonly cidr: string;
  readonly uidBase: number;
  /** Slots at most. */
  readonly max: number;
  /** Slots made ahead of need. */
  readonly spare: number;
  readonly log: Log;
}

/** What the host asks of a pool: slots can be made in other ways. */
export type Slots = Pick<SlotPool, keyof SlotPool>;

/**
 * Network slots: a namespace with a tap for the guest and a veth to the host. A used slot is never handed out again as
 * it is: its namespace is destroyed, and with it every connection and rule that its guest caused.
 */
export class SlotPool {
  readonly #options: SlotPoolOptions;
  readonly #prefix: string;
  /** Numbers of all slots that there are, spare or in use. */
  readonly #numbers = new Set<number>();
  #spare: Slot[] = [];
  #refilling: Promise<void> | undefined;
  #closed = false;
  readonly #mutex = new KeyedMutex<"names">();
  #resolver: string | undefined;

  constructor(options: SlotPoolOptions) {
    this.#options = options;
    this.#prefix = slotPrefix(options.dataDir);
  }

  /** Removes the slots that an earlier daemon left, except those that adopted instances hold. */
  async start(held: readonly number[]): Promise<void> {
    this.#resolver = await upstreamResolver();
    if (!this.#resolver)
      this.#options.log.warn("the host has no name server that guests could reach: names do not resolve in them");
    await mkdir(this.#options.dataDir, { recursive: true, mode: 0o700 });
    await writeFile(this.resolvConf, this.#resolver ? `nameserver ${this.#resolver}\n` : "", { mode: 0o644 });
    await applyNft(hostRules(this.#options.cidr, this.#resolver));
    await run("sysctl", ["-q", "-w", "net.ipv4.ip_forward=1"]);
    for (const n of held) this.#numbers.add(n);
    for (const n of await this.#existing()) if (!this.#numbers.has(n)) await this.#remove(n);
    this.#refill();
  }

  /** resolv.conf for processes that run in a slot itself, beside its guest. */
  get resolvConf(): string {
    return join(this.#options.dataDir, "slot-resolv.conf");
  }

  /** The slot of an adopted instance. */
  existing(index: number): Slot {
    return this.#slot(index);
  }

  /** @throws HostError `capacity` when there is no slot left */
  async take(): Promise<Slot> {
    const spare = this.#spare.shift();
    const slot = spare ?? (await this.#make());
    this.#refill();
    return slot;
  }

  async release(slot: Slot): Promise<void> {
    await this.#remove(slot.index);
  }

  /** Removes the spare slots; those of instances stay with them. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#refilling;
    for (const slot of this.#spare.splice(0)) await this.#remove(slot.index);
  }

  #refill(): void {
    if (this.#refilling || this.#closed) return;
    this.#refilling = (async () => {
      try {
        while (!this.#closed && this.#spare.length < this.#options.spare) this.#spare.push(await this.#make());
      } catch (err) {
        this.#options.log.warn({ err }, "no spare slot");
      } finally {
        this.#refilling = undefined;
      }
    })();
  }

  #make(): Promise<Slot> {
    return this.#mutex.run("names", async () => {
      if (this.#numbers.size >= this.#options.max)
        throw new HostError("capacity", `all ${this.#options.max} microvms that this host runs at once are in use`);
      for (let n = 1; n < 16_384; n++) {
        if (this.#numbers.has(n) || !(await this.#create(n))) continue;
        this.#numbers.add(n);
        return this.#slot(n);
      }
      throw new HostError("capacity", `all slots of ${this.#options.cidr} are in use`);
    });
  }

  /** False when another server on this machine has the number: the veth's name is the lock. */
  async #create(n: number): Promise<boolean> {
    const { netns, address } = this.#slot(n);
    const name = netns.slice(NETNS_DIR.length + 1);
    const veth = vethName(n);
    const hostAddress = this.#address(n, 1);
    await run("ip", ["netns", "add", name]);
    try {
      await run("ip", ["link", "add", veth, "type", "veth", "peer", "name", "veth0", "netns", name]);
    } catch (err) {
      await run("ip", ["netns", "del", name]);
      if (/File exists/.test(messageOf(err))) return false;
      throw err;
    }
    const host = [`addr add ${hostAddress}/30 dev ${veth}`, `link set ${veth} up`];
    const inside = [
      "link set lo up",
      `addr add ${address}/30 dev veth0`,
      "link set veth0 up",
      `tuntap add dev ${TAP} mode tap`,
      `link set ${TAP} address ${TAP_MAC}`,
      `addr add 169.254.0.1/30 dev ${TAP}`,
      `link set ${TAP} up`,
      // The host never asks who the guest is: a question would be answered by whoever forges faster.
      `neigh add 169.254.0.2 lladdr ${GUEST_MAC} dev ${TAP} nud permanent`,
      `route add default via ${hostAddress}`,
    ];
    try {
      await run("ip", ["-batch", "-"], { input: `${host.join("\n")}\n` });
      await run("ip", ["-n", name, "-batch", "-"], { input: `${inside.join("\n")}\n` });
      const script = "echo 1 > /proc/sys/net/ipv4/ip_forward && exec nft -f -";
      await run("ip", ["netns", "exec", name, "sh", "-c", script], { input: slotRules(this.#resolver) });
    } catch (err) {
      await this.#remove(n);
      throw err;
    }
    return true;
  }

  async #remove(n: number): Promise<void> {
    const name = this.#name(n);
    // The veth first: a namespace goes in the background, and until then its veth's name is taken. By its end in our
    // namespace: a crash can have left one without it, and then the name is another server's.
    await ignoreMissing(run("ip", ["-n", name, "link", "del", "veth0"]));
    await ignoreMissing(run("ip", ["netns", "del", name]));
    this.#numbers.delete(n);
  }

  async #existing(): Promise<number[]> {
    const names = await readdir(NETNS_DIR).catch(() => []);
    return names.filter((n) => n.startsWith(this.#prefix)).map((n) => Number(n.slice(this.#prefix.length)));
  }

  #slot(n: number): Slot {
    return {
      index: n,
      netns: `${NETNS_DIR}/${this.#name(n)}`,
      tap: TAP,
      address: this.#address(n, 2),
      uid: this.#options.uidBase + n,
    };
  }

  #name(n: number): string {
    return `${this.#prefix}${n}`;
  }

  #address(n: number, host: number): string {
    const [a, b] = this.#options.cidr.split(".");
    const offset = n * 4 + host;
    return `${a}.${b}.${offset >> 8}.${offset & 255}`;
  }
}

/** What the names of a data directory's namespaces begin with. */
export const slotPrefix = (dataDir: string): string =>
  `torpor-${createHash("sha256").update(dataDir).digest("hex").slice(0, 8)}-`;

const vethName = (n: number): string => `torpor${n}`;

async function applyNft(rules: string): Promise<void> {
  await run("nft", ["-f", "-"], { input: rules });
}

async function ignoreMissing(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (err) {
    if (!/Cannot find device|No such file/.test(messageOf(err))) throw err;
  }
}
