import { once } from "node:events";
import { createServer, type Server } from "node:net";
import type { Slot } from "../../driver/driver.ts";
import { HostError } from "../../host-client.ts";
import type { EgressPolicy } from "../egress.ts";
import type { HeldSlots, Slots } from "../slot-pool.ts";
import type { Traffic } from "../traffic.ts";

/** Who listens here has the addresses behind it, among all tests of this machine. */
const CLAIM_PORT = 4697;
const USABLE = 250;

/** Loopback addresses in place of network namespaces: what outlives a server of the network. */
export class FakeNetwork implements AsyncDisposable {
  readonly #claim: Server;
  readonly #prefix: string;
  readonly made = new Set<number>();
  /** Of slots whose guests reach something else than public addresses. */
  readonly policies = new Map<number, EgressPolicy>();
  /** What comes of another rule. */
  refusal: Error | undefined;

  private constructor(claim: Server, prefix: string) {
    this.#claim = claim;
    this.#prefix = prefix;
  }

  static async claim(): Promise<FakeNetwork> {
    for (let attempt = 0; attempt < 100; attempt++) {
      const byte = (): number => Math.floor(Math.random() * 254) + 1;
      const prefix = `127.${byte()}.${byte()}`;
      const server = createServer().unref();
      try {
        server.listen(CLAIM_PORT, `${prefix}.1`);
        await once(server, "listening");
        return new FakeNetwork(server, prefix);
      } catch {
        server.close(); // another test's
      }
    }
    throw new Error("all of 127.0.0.0/8 is taken");
  }

  slot(index: number): Slot {
    const address = `${this.#prefix}.${index + 1}`;
    return { index, netns: `/nowhere/${address}`, tap: "none", address, uid: process.getuid?.() ?? 0 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#claim.close();
  }
}

/** A server's slots in that network. */
export class FakeSlots implements Slots {
  readonly resolvConf = "/etc/resolv.conf";
  readonly #network: FakeNetwork;
  readonly #max: number;

  constructor(network: FakeNetwork, max = USABLE) {
    this.#network = network;
    this.#max = Math.min(max, USABLE);
  }

  async start(held: HeldSlots): Promise<void> {
    this.#network.made.clear();
    for (const index of held.keys()) this.#network.made.add(index);
    this.#network.policies.clear();
    for (const [index, policy] of held) if (policy) this.#network.policies.set(index, policy);
  }

  existing(index: number): Slot {
    return this.#network.slot(index);
  }

  async take(): Promise<Slot> {
    const { made } = this.#network;
    for (let index = 1; index <= this.#max; index++) {
      if (made.has(index)) continue;
      made.add(index);
      return this.#network.slot(index);
    }
    throw new HostError("capacity", `all ${this.#max} slots are in use`);
  }

  async apply({ index }: Slot, policy: EgressPolicy | undefined): Promise<void> {
    if (policy && this.#network.refusal) throw this.#network.refusal;
    if (policy) this.#network.policies.set(index, policy);
    else this.#network.policies.delete(index);
  }

  async traffic(): Promise<ReadonlyMap<number, Traffic>> {
    return new Map([...this.#network.made].map((index) => [index, { sentBytes: index, receivedBytes: 2 * index }]));
  }

  async release(slot: Slot): Promise<void> {
    this.#network.made.delete(slot.index);
    this.#network.policies.delete(slot.index);
  }

  async close(): Promise<void> {}
}
