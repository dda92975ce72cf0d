import { medianPhases, median as middle, summarise } from "./statistics.ts";

export type Unit = "ms" | "1/s" | "MB" | "MB/s";
export type Phases = Readonly<Record<string, number>>;

/** One row of the result: measured, or absent with its reason. */
export type Figure = Measured | Skipped;

export interface Measured {
  readonly id: string;
  readonly unit: Unit;
  readonly median: number;
  readonly p99: number;
  /** Median of the floor, measured in the same run; null where the figure has none. */
  readonly floor: number | null;
  /** Median by floor. */
  readonly ratio: number | null;
  readonly samples: number;
  readonly min: number;
  /** Medians in milliseconds: where the time went. They need not add up. */
  readonly phases?: Phases;
  readonly floorPhases?: Phases;
  /** What else was seen, such as how many microvms there were. */
  readonly details?: Readonly<Record<string, number | string>>;
}

export interface Skipped {
  readonly id: string;
  readonly unit: Unit;
  /** Why it could not be measured. */
  readonly skipped: string;
}

export interface Sample {
  readonly value: number;
  readonly phases?: Phases;
}

export function measured(
  id: string,
  unit: Unit,
  samples: readonly Sample[],
  floor: readonly Sample[] = [],
  details?: Measured["details"],
): Measured {
  const summary = summarise(samples.map((s) => s.value));
  const floorMedian = floor.length > 0 ? middle(floor.map((s) => s.value)) : null;
  const phasesOf = (list: readonly Sample[]): Phases =>
    rounded(medianPhases(list.flatMap((s) => (s.phases ? [s.phases] : []))));
  const [phases, floorPhases] = [phasesOf(samples), phasesOf(floor)];
  return {
    id,
    unit,
    median: round(summary.median),
    p99: round(summary.p99),
    floor: floorMedian === null ? null : round(floorMedian),
    ratio: floorMedian === null ? null : round(summary.median / floorMedian),
    samples: summary.samples,
    min: round(summary.min),
    ...(Object.keys(phases).length > 0 && { phases }),
    ...(Object.keys(floorPhases).length > 0 && { floorPhases }),
    ...(details && { details }),
  };
}

export const round = (n: number): number => Math.round(n * 100) / 100;
const rounded = (phases: Phases): Phases =>
  Object.fromEntries(Object.entries(phases).map(([name, ms]) => [name, round(ms)]));
