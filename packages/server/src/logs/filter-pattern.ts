import { parseJsonPattern } from "./json-pattern.ts";
import { FilterPatternError, type LineFilter } from "./line-filter.ts";

const MAX_PATTERN = 1024;

/**
 * Filter patterns of CloudWatch Logs: terms that a line must contain (`ERROR`, `"a phrase"`), must not (`-DEBUG`), or of
 * which it must contain one (`?ERROR ?WARN`), and conditions on lines of JSON (`{ $.level = "error" && $.ms > 100 }`).
 * Case counts. What is blank matches everything.
 * Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
 * @throws FilterPatternError
 */
export function parseFilterPattern(pattern: string): LineFilter {
  if (pattern.length > MAX_PATTERN)
    throw new FilterPatternError(`A filter pattern must not be longer than ${MAX_PATTERN} characters.`);
  const text = pattern.trim();
  if (text === "") return () => true;
  if (text.startsWith("{")) return parseJsonPattern(text);
  if (text.startsWith("["))
    throw new FilterPatternError("Patterns for space-delimited log events ([a, b, …]) are not supported.");
  const terms = [...termsOf(text)];
  const of = (sign: Term["sign"]): string[] => terms.filter((term) => term.sign === sign).map((term) => term.text);
  const [all, none, some] = [of(""), of("-"), of("?")];
  if (some.length > 0 && all.length + none.length > 0)
    throw new FilterPatternError("Optional terms (?term) cannot be combined with other terms.");
  return (line) =>
    all.every((term) => line.includes(term)) &&
    !none.some((term) => line.includes(term)) &&
    (some.length === 0 || some.some((term) => line.includes(term)));
}

interface Term {
  readonly sign: "" | "-" | "?";
  readonly text: string;
}

const TERM = /([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)\s*/gsy;

function* termsOf(text: string): Generator<Term> {
  TERM.lastIndex = 0;
  while (TERM.lastIndex < text.length) {
    const at = TERM.lastIndex;
    const match = TERM.exec(text);
    if (!match) throw new FilterPatternError(`Invalid filter pattern: '${text.slice(at, at + 64)}' is no term.`);
    const [, sign = "", quoted, bare] = match;
    if (bare?.startsWith("%"))
      throw new FilterPatternError("Regular expressions in filter patterns (%…%) are not supported.");
    if (bare !== undefined && !/^[\p{L}\p{N}_]+$/u.test(bare))
      throw new FilterPatternError(`Invalid character(s) in term '${bare.slice(0, 64)}'`);
    const term = quoted === undefined ? (bare ?? "") : quoted.replace(/\\(.)/gs, "$1");
    if (term === "") throw new FilterPatternError("Invalid filter pattern: a term is empty.");
    yield { sign: sign === "-" || sign === "?" ? sign : "", text: term };
  }
}
