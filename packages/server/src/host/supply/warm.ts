import { readFile } from "node:fs/promises";
import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";

/** A VMM that is there although nobody uses it now. */
export interface WarmVmm {
  readonly kind: "prepared" | "primed" | "standby";
  /** What the host gets back when it goes. */
  readonly bytes: number;
  /** When it is not worth keeping any more; monotonic milliseconds. */
  readonly until: number;
  /** Ends it. Called once, after it was taken out of the set. */
  evict(): Promise<void>;
}

export interface WarmOptions {
  /** What all of them may take together. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly log: Log;
}

const SWEEP_MS = 1000;
/** Below this part of the host's memory nothing is kept warm that nobody uses. */
const LOW_MEMORY = 0.08;
/** Percentage of the last ten seconds in which some work waited for memory. Source: Linux accounting/psi.rst */
const PRESSURE = 10;

/**
 * The VMMs that are kept ahead of need, bounded in memory: the one that has been there for longest goes first, and all
 * of them when the host needs its memory for others.
 */
export class WarmSet {
  readonly #options: WarmOptions;
  /** In the order of their coming. */
  readonly #vmms = new Set<WarmVmm>();
  readonly #ending = new Set<Promise<void>>();
  #cancel: (() => void) | undefined;

  constructor(options: WarmOptions) {
    this.#options = options;
  }

  /** From here on it may be evicted at any moment, until it is taken. */
  add(vmm: WarmVmm): void {
    this.#vmms.add(vmm);
    let bytes = this.bytes;
    for (const oldest of this.#vmms) {
      if (bytes <= this.#options.maxBytes) break;
      bytes -= oldest.bytes;
      this.#evict(oldest, "budget");
    }
  }

  /** False when it was evicted: then it is nobody's any more. */
  take(vmm: WarmVmm): boolean {
    return this.#vmms.delete(vmm);
  }

  has(vmm: WarmVmm): boolean {
    return this.#vmms.has(vmm);
  }

  get bytes(): number {
    let sum = 0;
    for (const vmm of this.#vmms) sum += vmm.bytes;
    return sum;
  }

  /** Whether the host has memory to spare for one more. */
  async roomy(): Promise<boolean> {
    return this.bytes < this.#options.maxBytes && !(await hostIsShort());
  }

  /** Looks about once a second until it is closed. */
  start(): void {
    const { clock, log } = this.#options;
    const sweep = async (): Promise<void> => {
      try {
        await this.#sweep();
      } catch (err) {
        log.error({ err }, "warm VMMs were not looked at");
      }
      if (this.#cancel) this.#cancel = clock.after(SWEEP_MS, () => void sweep());
    };
    this.#cancel = clock.after(SWEEP_MS, () => void sweep());
  }

  async close(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    for (const vmm of this.#vmms) this.#evict(vmm, "close");
    while (this.#ending.size > 0) await Promise.all(this.#ending);
  }

  async #sweep(): Promise<void> {
    const now = this.#options.clock.monotonic();
    for (const vmm of this.#vmms) if (now >= vmm.until) this.#evict(vmm, "age");
    if (this.#vmms.size > 0 && (await hostIsShort())) for (const vmm of this.#vmms) this.#evict(vmm, "memory");
  }

  #evict(vmm: WarmVmm, why: string): void {
    if (!this.#vmms.delete(vmm)) return;
    this.#options.log.debug({ kind: vmm.kind, bytes: vmm.bytes, why }, "warm vmm evicted");
    const ending = vmm
      .evict()
      .catch((err: unknown) => this.#options.log.error({ err, kind: vmm.kind }, "warm vmm not ended"))
      .finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }
}

async function hostIsShort(): Promise<boolean> {
  const info = await readFile("/proc/meminfo", "utf8");
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(info)?.[1] ?? 0);
  if (kib("MemAvailable") < LOW_MEMORY * kib("MemTotal")) return true;
  // Not every kernel counts it.
  const pressure = await readFile("/proc/pressure/memory", "utf8").catch(() => "");
  return Number(/^some avg10=([\d.]+)/.exec(pressure)?.[1] ?? 0) > PRESSURE;
}
