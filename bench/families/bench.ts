import type { RawHost } from "../floor/raw-host.ts";
import type { RawVmmSpec } from "../floor/raw-vmm.ts";
import type { Figure } from "../harness/figure.ts";
import type { Crowd } from "../lab/crowd.ts";
import type { BenchServer } from "../lab/server.ts";

/** What a family of figures works with. The server, the floors and the crowd are made when first asked for. */
export interface Bench {
  /** Of a figure whose samples take a second or less. */
  readonly samples: number;
  readonly signal: AbortSignal;
  wanted(id: string): boolean;
  server(): Promise<BenchServer>;
  raw(): Promise<RawHost>;
  rawSpec(): Promise<RawVmmSpec>;
  crowd(): Promise<Crowd>;
  add(figure: Figure): void;
  /** Progress, for whoever waits. */
  say(text: string): void;
}

export interface Family {
  readonly ids: readonly string[];
  /** Adds a figure for each of its ids that is wanted. */
  run(bench: Bench): Promise<void>;
}

/** So many samples, one after another, as long as nobody interrupts. */
export async function repeat<T>(bench: Bench, count: number, sample: (n: number) => Promise<T>): Promise<T[]> {
  const samples: T[] = [];
  for (let n = 0; n < count; n++) {
    bench.signal.throwIfAborted();
    samples.push(await sample(n));
  }
  return samples;
}

/** For samples that take many seconds. */
export const few = (bench: Bench, most: number): number => Math.min(bench.samples, most);
