import type { Authority } from "./authority.ts";

/** Somewhere that programs look for authorities. */
export interface Place {
  readonly kind: "system" | "browsers";
  /** For people: which store, and where. */
  readonly name: string;
  /** Whether it has the authority now. @throws Failure */
  has(authority: Authority): Promise<boolean>;
  /** @returns what was done, a line each. @throws Failure */
  install(authority: Authority): Promise<readonly string[]>;
  /** @returns what was done, a line each. @throws Failure */
  uninstall(authority: Authority): Promise<readonly string[]>;
}

/** What is not done here, only said: how a person would do it. */
export interface Advice {
  readonly kind: "system" | "browsers";
  readonly name: string;
  readonly install: string;
  readonly uninstall: string;
}
