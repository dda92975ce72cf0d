import type { Clock } from "../lib/clock.ts";
import { TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { pause } from "../lib/pause.ts";

const RETRY_MS = 1000;

export interface UntilStoredDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly shutdown: AbortSignal;
}

/**
 * Writes what has happened already, and so cannot be refused: offered again until the database is back.
 * @throws what `write` throws for another reason than an unavailable database; the shutdown's reason
 */
export async function untilStored<T>(write: () => Promise<T>, { clock, log, shutdown }: UntilStoredDeps): Promise<T> {
  for (;;) {
    try {
      return await write();
    } catch (err) {
      if (!(err instanceof TorporError && err.kind === "unavailable")) throw err;
      log.warn({ err }, "outcome not written yet");
    }
    await pause(clock, RETRY_MS, shutdown);
  }
}
