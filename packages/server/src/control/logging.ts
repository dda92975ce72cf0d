import { invalidInput } from "../lib/errors.ts";
import type { Logging } from "../store/microvm.ts";

/** The logging choice as it is kept: one of its two forms. @throws TorporError */
export function loggingOf(given: Logging | null | undefined): Logging | null {
  if (!given) return null;
  if (given.disabled && given.cloudWatch)
    throw invalidInput("The logging configuration must be either disabled or cloudWatch, not both.");
  return given.disabled || given.cloudWatch ? given : null;
}
