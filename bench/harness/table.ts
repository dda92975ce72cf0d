import type { Judged } from "./aims.ts";
import type { Phases } from "./figure.ts";

const HEAD = ["figure", "unit", "min", "median", "p99", "floor", "ratio", "n", "aim", ""] as const;

/** One line a figure, and below those that have phases where the time went. */
export function table(judged: readonly Judged[]): string {
  const rows = judged.map(({ figure, spec, verdict }) =>
    "skipped" in figure
      ? [figure.id, figure.unit, ...Array(6).fill("–"), spec.aim, `not measured: ${figure.skipped}`]
      : [
          figure.id,
          figure.unit,
          ...[figure.min, figure.median, figure.p99, figure.floor].map(number),
          figure.ratio === null ? "–" : figure.ratio.toFixed(2),
          String(figure.samples),
          spec.aim,
          verdict === "unknown" ? "cannot be said in this run" : verdict,
        ],
  );
  const widths = HEAD.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i >= 2 && i <= 7 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join("  ");
  return [HEAD, ...rows].map((row) => line(row).trimEnd()).join("\n");
}

export function phaseLines(judged: readonly Judged[]): string {
  return judged
    .flatMap(({ figure }) => {
      if ("skipped" in figure) return [];
      const details = Object.entries(figure.details ?? {}).map(([name, value]) => `${name} ${value}`);
      return [
        figure.phases && `${figure.id}: ${inWords(figure.phases)}`,
        figure.floorPhases && `${figure.id}, floor: ${inWords(figure.floorPhases)}`,
        details.length > 0 && `${figure.id}, seen: ${details.join(", ")}`,
      ].filter((text) => typeof text === "string");
    })
    .join("\n");
}

const inWords = (phases: Phases): string =>
  Object.entries(phases)
    .map(([name, ms]) => `${name} ${number(ms)}`)
    .join(", ");

const number = (n: number | null): string => (n === null ? "–" : n >= 100 ? n.toFixed(0) : n.toFixed(1));
