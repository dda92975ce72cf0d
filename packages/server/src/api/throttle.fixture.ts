import type { Rates } from "../control/request-context.ts";
import { systemClock } from "../lib/clock.ts";
import { Throttle } from "./throttle.ts";

const ENDLESS = { perSecond: Number.POSITIVE_INFINITY, burst: Number.POSITIVE_INFINITY };

/** Rates that slow nobody down, but for what is given. */
export const rates = (given: Partial<Rates> = {}): Rates => ({
  operation: (_accountId, operation) => ({ ...ENDLESS, bucket: operation }),
  stranger: () => ENDLESS,
  ...given,
});

export const noThrottle = (): Throttle => new Throttle(rates(), systemClock);
