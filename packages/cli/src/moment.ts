import { InvalidArgumentError } from "commander";

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** With a day at least: a number alone is no date. */
const DATE = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$/;

/** Parses a flag's value: a date, or so much before (`-1`) or after (`1`) now: `90s`, `15m`, `12h`, `30d`. */
export const moment =
  (direction: 1 | -1, now: () => number = Date.now) =>
  (text: string): Date => {
    const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
    const at = amount ? now() + direction * Number(amount) * (UNITS[unit ?? ""] ?? 0) : Date.parse(text);
    if (Number.isNaN(at) || !(amount || DATE.test(text)))
      throw new InvalidArgumentError("expected a date such as 2027-01-31T12:00Z, or a time such as 15m, 12h or 30d");
    return new Date(at);
  };
