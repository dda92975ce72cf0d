/** One thing that the server needs, and whether this machine has it. */
export interface Check {
  readonly name: string;
  /** `warn`: it works, with less than it could. `fail`: it does not work. */
  readonly status: "ok" | "warn" | "fail";
  readonly found: string;
  readonly needed: string;
  /** A command or a sentence; null when there is nothing to fix. */
  readonly howToFix: string | null;
}

export interface Report {
  /** False when a check failed. */
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

export type Outcome = Pick<Check, "status" | "found"> & { readonly howToFix?: string };

export const ok = (found: string): Outcome => ({ status: "ok", found });
export const warn = (found: string, howToFix: string): Outcome => ({ status: "warn", found, howToFix });
export const fail = (found: string, howToFix: string): Outcome => ({ status: "fail", found, howToFix });

export function check(name: string, needed: string, outcome: Outcome): Check {
  const found = outcome.found.replace(/\s+/g, " ").trim(); // other programs' words come in lines
  return { name, status: outcome.status, found, needed, howToFix: outcome.howToFix ?? null };
}
