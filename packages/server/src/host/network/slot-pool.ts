import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type Clock, systemClock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import { run } from "../../lib/run.ts";
import type { Slot } from "../driver/driver.ts";
import { HostError } from "../host-client.ts";
import { Forwarder } from "./dns/forwarder.ts";
import { type EgressPolicy, nameService, nameSets } from "./egress.ts";
import { countFrom, hostRules } from "./host-rules.ts";
import type { SlotLimits } from "./limits.ts";
import { upstreamResolver } from "./resolver.ts";
import { FORWARDER_PORT, type SlotSurroundings, slotRules } from "./rules.ts";
import {
  applyIn,
  makeNamespace,
  namespaceNames,
  netnsPath,
  removeNamespace,
  type SlotPlace,
  shape,
  TAP,
} from "./slot-namespace.ts";
import { readTraffic, type Traffic } from "./traffic.ts";

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
  readonly limits: SlotLimits;
  /** Files that say who resolves names; by default the machine's. */
  readonly resolverFiles?: readonly string[];
  readonly clock?: Clock;
  readonly log: Log;
}

/** What the host asks of a pool: slots can be made in other ways. */
export type Slots = Pick<SlotPool, keyof SlotPool>;

/** Numbers of slots, and what their guests may reach; undefined: public addresses. */
export type HeldSlots = ReadonlyMap<number, EgressPolicy | undefined>;

/** How many slots are taken over at once. */
const TAKEOVERS = 8;

/**
 * Network slots: a namespace with a tap for the guest and a veth to the host. A used slot is never handed out again as
 * it is: its namespace is destroyed, and with it every connection and rule that its guest caused. Slots are made with
 * the rules that most guests have, so that these wait for nothing.
 */
export class SlotPool {
  readonly #options: SlotPoolOptions;
  readonly #prefix: string;
  /** Numbers of all slots that there are, spare or in use. */
  readonly #numbers = new Set<number>();
  /** Of those that have one. */
  readonly #policies = new Map<number, EgressPolicy>();
  #spare: Slot[] = [];
  #refilling: Promise<void> | undefined;
  #closed = false;
  readonly #mutex = new KeyedMutex<"names">();
  #resolver: string | undefined;
  #forwarder: Forwarder | undefined;

  constructor(options: SlotPoolOptions) {
    this.#options = options;
    this.#prefix = slotPrefix(options.dataDir);
  }

  /**
   * Removes the slots that an earlier daemon left, except those that adopted instances hold: these get the rules that
   * they are to have, before anything else is done.
   */
  async start(held: HeldSlots): Promise<void> {
    const { dataDir, cidr, log, clock = systemClock, resolverFiles } = this.#options;
    this.#resolver = await upstreamResolver(resolverFiles);
    if (!this.#resolver) log.warn("the host has no name server that guests could reach: names do not resolve in them");
    this.#forwarder = new Forwarder({
      upstream: this.#resolver === undefined ? undefined : { address: this.#resolver, port: 53 },
      clock,
      log,
    });
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await writeFile(this.resolvConf, "nameserver 169.254.0.1\n", { mode: 0o644 });
    await this.#applyOnHost(hostRules(cidr, this.#resolver));
    await run("sysctl", ["-q", "-w", "net.ipv4.ip_forward=1"]);
    for (const n of held.keys()) this.#numbers.add(n);
    for (const n of await this.#existing()) if (!this.#numbers.has(n)) await this.#remove(n);
    const waiting = [...held];
    const takeOver = async (): Promise<void> => {
      for (let next = waiting.pop(); next; next = waiting.pop()) await this.#takeOver(...next);
    };
    await Promise.all(Array.from({ length: TAKEOVERS }, takeOver));
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

  /**
   * @param memoryMib the baseline of the guest that is to be in it
   * @throws HostError `capacity` when there is no slot left
   */
  async take(memoryMib: number): Promise<Slot> {
    const spare = this.#spare.shift();
    const slot = spare ?? (await this.#make());
    this.#refill();
    const { bytesPerSecondPerGib } = this.#options.limits;
    if (bytesPerSecondPerGib !== undefined) {
      try {
        await shape(this.#name(slot.index), Math.ceil((bytesPerSecondPerGib * memoryMib) / 1024));
      } catch (err) {
        await this.release(slot);
        throw err;
      }
    }
    return slot;
  }

  /**
   * What the slot's guest may reach from here on. Connections that are open stay open, so this is for before the guest
   * runs; for a slot that has this policy, nothing is done.
   */
  async apply({ index }: Slot, policy: EgressPolicy | undefined): Promise<void> {
    if (isDeepStrictEqual(policy, this.#policies.get(index))) return;
    await this.#apply(index, policy);
  }

  async release(slot: Slot): Promise<void> {
    await this.#remove(slot.index);
  }

  /** What guests have sent to others and received from them since their slots were made, by the slots' numbers. */
  async traffic(): Promise<ReadonlyMap<number, Traffic>> {
    return await readTraffic(this.#options.cidr, vethNumber);
  }

  /** Removes the spare slots; those of instances stay with them. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#refilling;
    for (const slot of this.#spare.splice(0)) await this.#remove(slot.index);
    await this.#forwarder?.close();
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

  /** False when another server on this machine has the number. */
  async #create(n: number): Promise<boolean> {
    const { limits } = this.#options;
    const place = this.#place(n);
    const rules = slotRules(undefined, this.#surroundings(n));
    if (!(await makeNamespace(place, { rules, bytesPerSecond: limits.bytesPerSecond }))) return false;
    try {
      await this.#count(place.veth);
    } catch (err) {
      await this.#remove(n);
      throw err;
    }
    return true;
  }

  /** Whoever reloads the host's firewall may take our table with it: then guests are closed off again here. */
  async #count(veth: string): Promise<void> {
    const { cidr, log } = this.#options;
    try {
      await this.#applyOnHost(countFrom(cidr, veth));
    } catch (err) {
      log.warn({ err }, "the host's rules for guests were gone, and are made again");
      await this.#applyOnHost(hostRules(cidr, this.#resolver) + countFrom(cidr, veth));
    }
  }

  async #applyOnHost(nft: string): Promise<void> {
    await run("nft", ["-f", "-"], { input: nft });
  }

  /** One that an earlier daemon made, perhaps of another version. Its guest may run, and goes on. */
  async #takeOver(n: number, policy: EgressPolicy | undefined): Promise<void> {
    try {
      await this.#apply(n, policy);
    } catch (err) {
      // Its own rules are still there; and one without a namespace is found broken by who adopts its VMM.
      this.#options.log.error({ err, slot: n }, "the rules of a slot not renewed");
    }
  }

  async #apply(n: number, policy: EgressPolicy | undefined): Promise<void> {
    const { cidr } = this.#options;
    const name = this.#name(n);
    const { address, hostAddress } = this.#place(n);
    const names = policy && nameService(policy);
    if (names?.kind === "forwarder") {
      await this.#forwarder?.serve(n, {
        address: hostAddress,
        port: FORWARDER_PORT,
        peer: address,
        ...names,
        sets: nameSets(policy!, cidr),
        apply: (nft) => applyIn(name, nft),
      });
    } else await this.#forwarder?.stop(n);
    await applyIn(name, slotRules(policy, this.#surroundings(n)));
    if (policy) this.#policies.set(n, policy);
    else this.#policies.delete(n);
  }

  async #remove(n: number): Promise<void> {
    await this.#forwarder?.stop(n);
    await removeNamespace(this.#name(n));
    this.#policies.delete(n);
    this.#numbers.delete(n);
  }

  async #existing(): Promise<number[]> {
    const names = await namespaceNames();
    return names.filter((n) => n.startsWith(this.#prefix)).map((n) => Number(n.slice(this.#prefix.length)));
  }

  #slot(n: number): Slot {
    const { name, address } = this.#place(n);
    return { index: n, netns: netnsPath(name), tap: TAP, address, uid: this.#options.uidBase + n };
  }

  #place(n: number): SlotPlace {
    return {
      name: this.#name(n),
      veth: `${VETH_PREFIX}${n}`,
      hostAddress: this.#address(n, 1),
      address: this.#address(n, 2),
    };
  }

  #surroundings(n: number): SlotSurroundings {
    const { cidr, limits } = this.#options;
    return {
      slots: cidr,
      resolver: this.#resolver,
      hostAddress: this.#place(n).hostAddress,
      limits: limits.connections,
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

const VETH_PREFIX = "torpor";
const vethNumber = (name: string): number => Number(name.slice(VETH_PREFIX.length));
