export type Variables = ReadonlyMap<string, string>;

/** Why a text cannot be expanded; the message is for the Dockerfile's author. */
export class ExpansionError extends Error {
  override readonly name = "ExpansionError";
}

const MAX_LENGTH = 4096;
const MAX_DEPTH = 8;

/**
 * Replaces `$X`, `${X}`, `${X:-d}`, `${X-d}`, `${X:+d}` and `${X+d}` as a Dockerfile does; a backslash protects a `$`.
 * A variable without a value is an error where nothing stands in for it.
 * @throws ExpansionError
 */
export function expandVariables(text: string, variables: Variables, depth = 0): string {
  if (depth > MAX_DEPTH) throw new ExpansionError("its variables are nested too deeply");
  let out = "";
  let at = 0;
  while (at < text.length) {
    const char = text.charAt(at);
    if (char === "\\" && at + 1 < text.length) {
      out += text.charAt(at + 1);
      at += 2;
    } else if (char === "$") {
      const [value, next] = expandOne(text, at, variables, depth);
      out += value;
      at = next;
    } else {
      out += char;
      at += 1;
    }
    if (out.length > MAX_LENGTH) throw new ExpansionError(`it expands to more than ${MAX_LENGTH} characters`);
  }
  return out;
}

function expandOne(text: string, at: number, variables: Variables, depth: number): [value: string, next: number] {
  const plain = /^\$([A-Za-z_]\w*)/.exec(text.slice(at, at + 257));
  if (plain?.[1]) return [require(plain[1], variables), at + plain[0].length];
  if (text.charAt(at + 1) !== "{") throw new ExpansionError("a $ stands before something that is not a name");
  const end = closingBrace(text, at + 1);
  const inner = /^([A-Za-z_]\w*)(?:(:?[-+])(.*))?$/s.exec(text.slice(at + 2, end));
  if (!inner?.[1]) throw new ExpansionError(`\${${text.slice(at + 2, Math.min(end, at + 40))}} is not supported`);
  const [, name, operator, word = ""] = inner;
  const value = variables.get(name);
  const has = operator?.startsWith(":") ? value !== undefined && value !== "" : value !== undefined;
  if (!operator) return [require(name, variables), end + 1];
  const takesWord = operator.endsWith("+") ? has : !has;
  if (takesWord) return [expandVariables(word, variables, depth + 1), end + 1];
  return [operator.endsWith("+") ? "" : (value ?? ""), end + 1];
}

function require(name: string, variables: Variables): string {
  const value = variables.get(name);
  if (value === undefined)
    throw new ExpansionError(`the variable ${name} has no value; declare it with ARG before FROM`);
  return value;
}

function closingBrace(text: string, open: number): number {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    if (text.charAt(i) === "{") depth += 1;
    if (text.charAt(i) === "}") depth -= 1;
    if (depth === 0) return i;
  }
  throw new ExpansionError("a variable has no closing brace");
}
