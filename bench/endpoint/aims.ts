import type { FigureSpec } from "../harness/aims.ts";

/** Rates are what a second of the server's processor is enough for: whoever makes the load cannot be the bound of that. */
export const ENDPOINT_FIGURES: readonly FigureSpec[] = [
  atLeast("keepalive.rate", 0.5, "1/s"),
  atLeast("new.rate", 0.5, "1/s"),
  {
    id: "added.latency",
    unit: "ms",
    aim: "median ≤ 1 ms, p99 ≤ 5 ms",
    reaches: (f) => f.median <= 1 && f.p99 <= 5,
  },
  { id: "new.latency", unit: "ms", aim: "for the eye", reference: true, reaches: () => undefined },
  atLeast("stream.rate", 0.8, "MB/s"),
  { id: "websockets.memory", unit: "MB", aim: "5000 idle: ≤ 300 MB", reaches: (f) => f.median <= 300 },
];

/** A figure whose floor is nginx's. */
function atLeast(id: string, share: number, unit: FigureSpec["unit"]): FigureSpec {
  return { id, unit, aim: `≥ ${share} × nginx`, reaches: (f) => (f.ratio === null ? undefined : f.ratio >= share) };
}
