/** What a list of samples says. */
export interface Summary {
  readonly samples: number;
  readonly min: number;
  readonly median: number;
  readonly p99: number;
}

/** @throws RangeError for no samples */
export function summarise(samples: readonly number[]): Summary {
  if (samples.length === 0) throw new RangeError("no samples");
  const sorted = samples.toSorted((a, b) => a - b);
  return {
    samples: sorted.length,
    min: sorted[0]!,
    median: median(sorted),
    // Nearest rank: of fewer than a hundred samples the largest.
    p99: sorted[Math.ceil(sorted.length * 0.99) - 1]!,
  };
}

export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2;
}

/** The median of each phase; one that only some samples have counts where it is. */
export function medianPhases(samples: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const byName = new Map<string, number[]>();
  for (const phases of samples)
    for (const [name, ms] of Object.entries(phases)) byName.set(name, [...(byName.get(name) ?? []), ms]);
  return Object.fromEntries([...byName].map(([name, values]) => [name, median(values)]));
}
