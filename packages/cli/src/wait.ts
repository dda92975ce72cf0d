import { setTimeout as sleep } from "node:timers/promises";

/** Asks until the answer is there; sooner in the beginning, twice a second later on. */
export async function until<T>(ask: () => Promise<T | undefined>, signal: AbortSignal): Promise<T> {
  for (let pauseMs = 50; ; pauseMs = Math.min(500, pauseMs * 1.5)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await sleep(pauseMs, undefined, { signal });
  }
}
