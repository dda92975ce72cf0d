import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";

/** Operations that wait for their outcome answer after so long; what is slower goes on behind the answer. */
export const ANSWER_MS = 10_000;

/**
 * Waits for the work, `ms` at most. The work goes on regardless.
 * @throws what the work throws in time
 */
export async function within(ms: number, work: Promise<unknown>, clock: Clock): Promise<void> {
  const patience = new AbortController();
  const cancel = clock.after(ms, () => patience.abort());
  try {
    await abortable(work, patience.signal);
  } catch (err) {
    if (!patience.signal.aborted) throw err;
  } finally {
    cancel();
  }
}
