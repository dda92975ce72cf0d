/**
 * A service as one source describes it, flattened into facts that can be compared one by one. Sources differ in what
 * they know (an SDK has no lengths): what a source does not say is not there.
 */
export interface Service {
  /** For messages. */
  readonly source: string;
  readonly operations: ReadonlyMap<string, OperationFacts>;
}

export interface OperationFacts {
  /** `method`, `uri`, `status`, and `error NAME` with the status that it has. */
  readonly facts: Facts;
  /**
   * By path: `input.hooks.port`, `output.items[].state`, `input.tags{key}`, `input.tags{value}`. In the order of the
   * source.
   */
  readonly members: ReadonlyMap<string, Facts>;
}

/** Each fact as text, so that any two can be compared and shown. */
export type Facts = Readonly<Partial<Record<string, string>>>;

/** The facts that members have, in the order in which they are told. */
export const MEMBER_FACTS = [
  "type",
  "required",
  "in",
  "token",
  "sensitive",
  "format",
  "min",
  "max",
  "pattern",
  "enum",
] as const;
export type MemberFact = (typeof MEMBER_FACTS)[number];

/** Said where a source would say that there is such a bound, and it says none. */
export const NONE = "none";

/** Enumerations are sets. */
export const enumFact = (values: readonly string[]): string => values.toSorted().join(", ");
