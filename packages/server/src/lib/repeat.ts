import type { Clock } from "./clock.ts";
import { pause } from "./pause.ts";

/** Does the work again and again, each time after a pause, until the signal. Resolves when it has stopped. */
export async function repeat(
  clock: Clock,
  pauseMs: number,
  work: () => Promise<void>,
  failed: (err: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      await pause(clock, pauseMs, signal);
    } catch {
      return;
    }
    await work().catch(failed);
  }
}
