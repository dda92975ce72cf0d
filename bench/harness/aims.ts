import type { Figure, Measured, Unit } from "./figure.ts";

/** `undefined`: it cannot be said in this run, because what it is compared with was not measured. */
type Verdict = boolean | undefined;

export interface FigureSpec {
  readonly id: string;
  readonly unit: Unit;
  /** For people; a reference has none that it could miss. */
  readonly aim: string;
  readonly reference?: true;
  readonly reaches: (figure: Measured, other: (id: string) => Measured | undefined) => Verdict;
}

const ratio =
  (most: number) =>
  (figure: Measured): Verdict =>
    figure.ratio === null ? undefined : figure.ratio <= most;

const suspend = (id: string): FigureSpec => ({
  id,
  unit: "ms",
  aim: "≤ 1.5 × floor + 40 ms",
  reaches: (f) => (f.floor === null ? undefined : f.median <= f.floor * 1.5 + 40),
});

const slowerThanPrimed =
  (times: number): FigureSpec["reaches"] =>
  (figure, other) => {
    const primed = other("launch.primed.first_byte");
    return primed && figure.median >= primed.median * times;
  };

/** Every figure there is, in the order of the table. */
export const FIGURES: readonly FigureSpec[] = [
  {
    id: "launch.primed.first_byte",
    unit: "ms",
    aim: "≤ 1.5 × floor, and faster than launch.container",
    reaches: (f, other) => {
      const container = other("launch.container");
      return ratio(1.5)(f) && (container === undefined || f.median < container.median);
    },
  },
  { id: "launch.unprimed.first_byte", unit: "ms", aim: "≤ 1.3 × floor", reaches: ratio(1.3) },
  { id: "launch.cold_boot", unit: "ms", aim: "≥ 20 × primed", reference: true, reaches: slowerThanPrimed(20) },
  { id: "launch.container", unit: "ms", aim: "primed is faster", reference: true, reaches: slowerThanPrimed(1) },
  { id: "launch.gvisor", unit: "ms", aim: "primed is faster", reference: true, reaches: slowerThanPrimed(1) },
  suspend("suspend.2mb"),
  suspend("suspend.20mb"),
  suspend("suspend.100mb"),
  suspend("suspend.again"),
  { id: "resume.standby", unit: "ms", aim: "≤ 1.5 × floor", reaches: ratio(1.5) },
  { id: "resume.stored.2mb", unit: "ms", aim: "≤ 1.5 × floor", reaches: ratio(1.5) },
  { id: "resume.stored.100mb", unit: "ms", aim: "≤ 1.5 × floor", reaches: ratio(1.5) },
  { id: "fork.pause", unit: "ms", aim: "≤ 60 ms", reaches: (f) => f.median <= 60 },
  {
    id: "fork.20",
    unit: "ms",
    aim: "≤ 20 × launch.primed.first_byte",
    reaches: (f, other) => {
      const primed = other("launch.primed.first_byte");
      return primed && f.median <= primed.median * 20;
    },
  },
  {
    id: "launch.rate",
    unit: "1/s",
    aim: "≥ 0.5 × floor",
    reaches: (f) => (f.ratio === null ? undefined : f.ratio >= 0.5),
  },
  {
    id: "density.idle",
    unit: "MB",
    aim: "≤ 40 MB private each",
    reaches: (f) => f.median <= 40,
  },
  {
    id: "density.suspended",
    unit: "ms",
    aim: "no process; resume ≤ 1.2 × resume.stored.2mb",
    reaches: (f, other) => {
      if (f.details?.processes !== 0) return false;
      const stored = other("resume.stored.2mb");
      return stored && f.median <= stored.median * 1.2;
    },
  },
  { id: "restart", unit: "ms", aim: "≤ 5000 ms", reaches: (f) => f.median <= 5000 },
];

export const unitOf = (id: string): Unit => FIGURES.find((spec) => spec.id === id)!.unit;

export interface Judged {
  readonly figure: Figure;
  readonly spec: FigureSpec;
  /** `unknown`: what the aim compares with was not measured in this run. */
  readonly verdict: "reached" | "missed" | "unknown";
}

export function judge(figures: readonly Figure[], specs: readonly FigureSpec[] = FIGURES): Judged[] {
  const other = (id: string): Measured | undefined => {
    const found = figures.find((f) => f.id === id);
    return found && !("skipped" in found) ? found : undefined;
  };
  return figures.map((figure) => {
    const spec = specs.find((s) => s.id === figure.id)!;
    if ("skipped" in figure) return { figure, spec, verdict: "unknown" };
    const reached = spec.reaches(figure, other);
    return { figure, spec, verdict: reached === undefined ? "unknown" : reached ? "reached" : "missed" };
  });
}

/**
 * The ids that miss their aim. One that could not be measured has not shown that it reaches it; references, which
 * describe others than us, cannot miss.
 */
export function misses(judged: readonly Judged[]): string[] {
  return judged
    .filter(({ spec, figure, verdict }) => !spec.reference && (verdict === "missed" || "skipped" in figure))
    .map(({ figure }) => figure.id);
}
