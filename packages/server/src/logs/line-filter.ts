/** Whether a line is wanted. */
export type LineFilter = (text: string) => boolean;

/** The pattern is none, or of a kind that is not known here: it is never taken for less than it says. */
export class FilterPatternError extends Error {
  override readonly name = "FilterPatternError";
}
