import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Slot } from "../../src/host/driver/driver.ts";
import type { EgressPolicy } from "../../src/host/network/egress.ts";
import type { SlotLimits } from "../../src/host/network/limits.ts";
import { GUEST_MAC } from "../../src/host/network/rules.ts";
import { type HeldSlots, slotPrefix } from "../../src/host/network/slot-pool.ts";
import type { HostCalls } from "./host-process.ts";
import type { InsideCalls } from "./inside-process.ts";
import type { OutsideCalls } from "./outside-process.ts";
import { RemoteProcess } from "./remote.ts";

export const CIDR = "100.99.0.0/16";
/** Of the host, towards the rest of the world. */
export const HOST_ADDRESS = "5.5.0.1";
/** On the host itself, as a second card has it. */
export const HOST_PRIVATE_ADDRESS = "192.168.44.1";
export const RESOLVER = "5.5.0.2";
/** Each is an address of the outside: what is not reached there, the rules have kept back. */
export const OUTSIDE = ["5.6.7.8", "5.6.7.9", "8.8.8.8", "10.20.0.5", "10.20.9.9", "172.16.5.5", "192.168.7.7"];
export const MORE_OUTSIDE = ["100.100.0.9", "192.0.0.9", "198.18.0.9", "169.254.77.7", "100.99.200.1"];

export const LIMITS: SlotLimits = { connections: { most: 1000, perSecond: 500 } };

/** Those of the addresses that a TCP connection comes through to. */
export async function reached(
  { tcp }: Pick<RemoteProcess<InsideCalls>["calls"], "tcp">,
  addresses: readonly string[],
  port = 443,
): Promise<string[]> {
  const said = await Promise.all(addresses.map((address) => tcp(address, port)));
  return addresses.filter((_address, index) => said[index] !== undefined);
}

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/**
 * A host, the world outside it, and guests, each a network namespace of its own; nothing of the machine's own network
 * is touched. The host's slots are made by the code that makes them in production; in place of a VM a wire leads from a
 * slot's tap to a namespace, where somebody is root.
 */
export class Lab implements AsyncDisposable {
  readonly #id = `tlab${randomBytes(3).toString("hex")}`;
  readonly #dir: string;
  readonly #stack = new AsyncDisposableStack();
  #host: RemoteProcess<HostCalls> | undefined;
  #outside!: RemoteProcess<OutsideCalls>;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async make(): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), "torpor-lab-")));
    try {
      await lab.#make();
      return lab;
    } catch (err) {
      await lab[Symbol.asyncDispose]();
      throw err;
    }
  }

  async #make(): Promise<void> {
    this.#stack.defer(() => rm(this.#dir, { recursive: true, force: true }));
    for (const part of ["host", "out"]) this.addNamespace(`${this.#id}-${part}`);
    const { host, out } = this;
    ip("-n", host, "link", "add", "wan0", "type", "veth", "peer", "name", "lan0", "netns", out);
    ip("-n", host, "addr", "add", `${HOST_ADDRESS}/24`, "dev", "wan0");
    ip("-n", host, "addr", "add", `${HOST_PRIVATE_ADDRESS}/24`, "dev", "lo");
    ip("-n", host, "link", "set", "wan0", "up");
    ip("-n", out, "addr", "add", `${RESOLVER}/24`, "dev", "lan0");
    ip("-n", out, "link", "set", "lan0", "up");
    const addresses = [RESOLVER, ...OUTSIDE, ...MORE_OUTSIDE];
    for (const address of addresses.slice(1)) ip("-n", out, "addr", "add", `${address}/32`, "dev", "lo");
    ip("-n", host, "route", "add", "default", "via", RESOLVER);
    this.#outside = this.#stack.use(new RemoteProcess<OutsideCalls>(out, "outside-process.ts", addresses));
    await this.#outside.calls.listen();
  }

  /** Namespaces of this lab alone. */
  get host(): string {
    return `${this.#id}-host`;
  }
  get out(): string {
    return `${this.#id}-out`;
  }
  get outside(): RemoteProcess<OutsideCalls>["calls"] {
    return this.#outside.calls;
  }
  get slots(): RemoteProcess<HostCalls>["calls"] {
    if (!this.#host) throw new Error("the host has not been started");
    return this.#host.calls;
  }

  addNamespace(name: string): void {
    ip("netns", "add", name);
    this.#stack.defer(() => void ip("netns", "del", name));
    ip("-n", name, "link", "set", "lo", "up");
  }

  /** Also after `kill`: on the slots that are there. */
  async start({
    limits = LIMITS,
    held = new Map(),
    resolver = RESOLVER,
    spare = 0,
  }: {
    limits?: SlotLimits;
    held?: HeldSlots;
    resolver?: string;
    spare?: number;
  } = {}): Promise<void> {
    if (!this.#host) this.#stack.defer(() => this.#removeSlots());
    await this.#host?.kill();
    this.#host = this.#stack.use(
      new RemoteProcess<HostCalls>(this.host, "host-process.ts", [this.#dir, CIDR, resolver]),
    );
    await this.#host.calls.start(limits, held, spare);
  }

  async kill(): Promise<void> {
    await this.#host?.kill();
  }

  /** A guest in a slot that has the policy before it is there. */
  async guest(policy?: EgressPolicy, memoryMib = 512): Promise<Guest> {
    const slot = await this.slots.take(memoryMib);
    await this.slots.apply(slot, policy);
    return await Guest.start(this, slot, `${this.#id}-g${slot.index}`);
  }

  nftIn(namespace: string, ...args: string[]): string {
    return execFileSync("nsenter", [`--net=/run/netns/${namespace}`, "--", "nft", ...args], { encoding: "utf8" });
  }

  /** Programs in a namespace of this lab, until disposed of. */
  programsIn(namespace: string): RemoteProcess<InsideCalls> {
    return new RemoteProcess<InsideCalls>(namespace, "inside-process.ts");
  }

  /** What passes over an interface, until disposed of. */
  async see(namespace: string, device: string): Promise<Sniffer> {
    return await Sniffer.start(namespace, device);
  }

  async #removeSlots(): Promise<void> {
    const prefix = slotPrefix(join(this.#dir, "data"));
    for (const name of await readdir("/run/netns")) if (name.startsWith(prefix)) ip("netns", "del", name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Root in a namespace at the guest's end of a slot's tap. */
export class Guest implements AsyncDisposable {
  readonly slot: Slot;
  readonly namespace: string;
  readonly #lab: Lab;
  readonly #wire: ChildProcess;
  readonly #inside: RemoteProcess<InsideCalls>;

  private constructor(lab: Lab, slot: Slot, namespace: string, wire: ChildProcess) {
    this.#lab = lab;
    this.slot = slot;
    this.namespace = namespace;
    this.#wire = wire;
    this.#inside = new RemoteProcess<InsideCalls>(namespace, "inside-process.ts");
  }

  static async start(lab: Lab, slot: Slot, namespace: string): Promise<Guest> {
    ip("netns", "add", namespace);
    ip("-n", namespace, "link", "set", "lo", "up");
    const wire = spawn("python3", [file("guest-wire.py"), basename(slot.netns), namespace], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(wire.stdout!, "data");
    ip("-n", namespace, "link", "set", "eth0", "address", GUEST_MAC);
    ip("-n", namespace, "addr", "add", "169.254.0.2/30", "dev", "eth0");
    ip("-n", namespace, "link", "set", "eth0", "up");
    ip("-n", namespace, "route", "add", "default", "via", "169.254.0.1");
    return new Guest(lab, slot, namespace, wire);
  }

  get does(): RemoteProcess<InsideCalls>["calls"] {
    return this.#inside.calls;
  }

  /** Its interface at the host's end. */
  get veth(): string {
    return `torpor${this.slot.index}`;
  }

  ip(...args: string[]): string {
    return ip("-n", this.namespace, ...args);
  }

  /** Puts frames on its wire as they are. */
  send(...frames: readonly Uint8Array[]): void {
    const hex = frames.map((frame) => Buffer.from(frame).toString("hex"));
    execFileSync("nsenter", [
      `--net=/run/netns/${this.namespace}`,
      ...["--", "python3", file("frames.py"), "send", "eth0", ...hex],
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inside[Symbol.asyncDispose]();
    const gone = once(this.#wire, "exit");
    this.#wire.kill();
    await gone;
    ip("netns", "del", this.namespace);
    await this.#lab.slots.release(this.slot);
  }
}

export class Sniffer implements Disposable {
  readonly #child: ChildProcess;
  readonly #frames: Buffer[] = [];
  readonly #waiting = new Set<() => void>();

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(namespace: string, device: string): Promise<Sniffer> {
    const command = [`--net=/run/netns/${namespace}`, "--", "python3", file("frames.py"), "see", device];
    const child = spawn("nsenter", command, { stdio: ["ignore", "pipe", "inherit"] });
    const sniffer = new Sniffer(child);
    const lines = createInterface({ input: child.stdout! });
    await once(lines, "line");
    lines.on("line", (line) => {
      sniffer.#frames.push(Buffer.from(line, "hex"));
      for (const wake of sniffer.#waiting) wake();
    });
    return sniffer;
  }

  /** All frames up to the one with this text in it, without that. */
  async until(text: string): Promise<Buffer[]> {
    for (;;) {
      const at = this.#frames.findIndex((frame) => frame.includes(text));
      if (at >= 0) return this.#frames.slice(0, at);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
