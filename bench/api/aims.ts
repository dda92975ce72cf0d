import type { FigureSpec } from "../harness/aims.ts";

/** Every figure of the API there is, in the order of the table. */
export const API_FIGURES: readonly FigureSpec[] = [
  { id: "read.rate", unit: "1/s", aim: "≥ 2000 GetMicrovm/s", reaches: (f) => f.median >= 2000 },
  { id: "read.latency", unit: "ms", aim: "for the eye", reference: true, reaches: () => undefined },
  { id: "list.rate", unit: "1/s", aim: "for the eye: 50 a page", reference: true, reaches: () => undefined },
  { id: "write.rate", unit: "1/s", aim: "≥ 300 TagResource/s", reaches: (f) => f.median >= 300 },
  { id: "write.latency", unit: "ms", aim: "for the eye", reference: true, reaches: () => undefined },
  { id: "run.rate", unit: "1/s", aim: "for the eye: RunMicrovm", reference: true, reaches: () => undefined },
  { id: "run.latency", unit: "ms", aim: "p99 ≤ 5 ms, one at a time", reaches: (f) => f.p99 <= 5 },
];
