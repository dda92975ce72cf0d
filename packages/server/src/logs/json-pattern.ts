import { FilterPatternError, type LineFilter } from "./line-filter.ts";

type Condition = (value: unknown) => boolean;

const TOKEN =
  /\s*(?:(&&|\|\||!=|<=|>=|[{}()=<>])|(\$[A-Za-z0-9_\-.[\]'"]*)|"((?:[^"\\]|\\.)*)"|([A-Za-z0-9_.*:/@#+-]+)|(%))/gsy;
const STEP = /\.([A-Za-z0-9_-]+)|\[(\d{1,6})\]|\.?\[(?:'([^'\]]+)'|"([^"\]]+)")\]/gy;
const MAX_DEPTH = 32;

type Token =
  | { readonly kind: "sign"; readonly text: string }
  | { readonly kind: "path"; readonly text: string }
  | { readonly kind: "quoted"; readonly text: string }
  | { readonly kind: "word"; readonly text: string };

/**
 * `{ $.a.b = "text*" && ($.n >= 5 || $.list[0] IS TRUE || $.x NOT EXISTS) }`: conditions on a line that is JSON; a line
 * that is none does not match.
 * @throws FilterPatternError
 */
export function parseJsonPattern(text: string): LineFilter {
  const condition = new Parser([...tokensOf(text)]).whole();
  return (line) => {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return false;
    }
    return condition(value);
  };
}

function* tokensOf(text: string): Generator<Token> {
  TOKEN.lastIndex = 0;
  const whole = text.trimEnd();
  while (TOKEN.lastIndex < whole.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(whole);
    if (!match) throw invalid(`'${whole.slice(at).trim().slice(0, 64)}' was not expected`);
    const [, sign, path, quoted, word] = match;
    if (sign !== undefined) yield { kind: "sign", text: sign };
    else if (path !== undefined) yield { kind: "path", text: path };
    else if (quoted !== undefined) yield { kind: "quoted", text: quoted.replace(/\\(.)/gs, "$1") };
    else if (word !== undefined) yield { kind: "word", text: word };
    else throw new FilterPatternError("Regular expressions in filter patterns (%…%) are not supported.");
  }
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  whole(): Condition {
    this.#expect("{");
    const condition = this.#either(0);
    this.#expect("}");
    const rest = this.#tokens[this.#at];
    if (rest) throw invalid(`'${rest.text}' follows the end`);
    return condition;
  }

  #either(depth: number): Condition {
    const parts = [this.#both(depth)];
    while (this.#take("||")) parts.push(this.#both(depth));
    return (value) => parts.some((part) => part(value));
  }

  #both(depth: number): Condition {
    const parts = [this.#one(depth)];
    while (this.#take("&&")) parts.push(this.#one(depth));
    return (value) => parts.every((part) => part(value));
  }

  #one(depth: number): Condition {
    if (depth > MAX_DEPTH) throw invalid("too many parentheses");
    if (this.#take("(")) {
      const inner = this.#either(depth + 1);
      this.#expect(")");
      return inner;
    }
    const path = this.#next("a selector such as $.name");
    if (path.kind !== "path") throw invalid(`expected a selector such as $.name, got '${path.text}'`);
    const find = selector(path.text);
    const test = this.#test();
    return (value) => test(find(value));
  }

  #test(): Condition {
    const operator = this.#next("an operator");
    if (operator.kind === "word") return this.#wordTest(operator.text.toUpperCase());
    const operand = this.#next("a value");
    if (operator.kind !== "sign" || (operand.kind !== "word" && operand.kind !== "quoted"))
      throw invalid(`'${operator.text} ${operand.text}' is no comparison`);
    return comparison(operator.text, operand);
  }

  #wordTest(first: string): Condition {
    const second = this.#next("TRUE, FALSE, NULL or EXISTS").text.toUpperCase();
    const test = WORD_TESTS[`${first} ${second}`];
    if (!test) throw invalid(`'${first} ${second}' is none of ${Object.keys(WORD_TESTS).join(", ")}`);
    return test;
  }

  #next(wanted: string): Token {
    const token = this.#tokens[this.#at++];
    if (!token) throw invalid(`it ends where ${wanted} was expected`);
    return token;
  }

  #take(sign: string): boolean {
    const token = this.#tokens[this.#at];
    if (token?.kind !== "sign" || token.text !== sign) return false;
    this.#at++;
    return true;
  }

  #expect(sign: string): void {
    if (!this.#take(sign)) throw invalid(`expected ${sign}, got '${this.#tokens[this.#at]?.text ?? "the end"}'`);
  }
}

const WORD_TESTS: Readonly<Record<string, Condition>> = {
  "IS TRUE": (value) => value === true,
  "IS FALSE": (value) => value === false,
  "IS NULL": (value) => value === null,
  "NOT EXISTS": (value) => value === undefined,
};

/** What is not there equals nothing, and differs from nothing. */
function comparison(operator: string, operand: Token): Condition {
  const number =
    operand.kind === "word" && /^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(operand.text)
      ? Number(operand.text)
      : undefined;
  if (operator === "=" || operator === "!=") {
    const matches =
      number === undefined ? textTest(operand.text) : (value: unknown) => value === number || value === operand.text;
    const wanted = operator === "=";
    return (value) => value !== undefined && matches(value) === wanted;
  }
  if (number === undefined) throw invalid(`${operator} compares numbers, got '${operand.text}'`);
  const order = ORDERS[operator];
  if (!order) throw invalid(`'${operator}' is no comparison`);
  return (value) => typeof value === "number" && order(value, number);
}

const ORDERS: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

/** `*` stands for any characters. No regular expression: a pattern must not be able to take long. */
function textTest(pattern: string): Condition {
  const parts = pattern.split("*");
  const [head = ""] = parts;
  const tail = parts.at(-1) ?? "";
  return (value) => {
    if (typeof value !== "string") return false;
    if (parts.length === 1) return value === pattern;
    if (value.length < head.length + tail.length || !value.startsWith(head) || !value.endsWith(tail)) return false;
    let at = head.length;
    for (const part of parts.slice(1, -1)) {
      const found = value.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return at <= value.length - tail.length;
  };
}

function selector(path: string): (value: unknown) => unknown {
  const steps: string[] = [];
  STEP.lastIndex = 1;
  while (STEP.lastIndex < path.length) {
    const match = STEP.exec(path);
    if (!match) throw invalid(`'${path.slice(0, 64)}' is no selector`);
    steps.push(match[1] ?? match[2] ?? match[3] ?? match[4] ?? "");
  }
  return (value) => {
    let found: unknown = value;
    for (const step of steps) {
      if (typeof found !== "object" || found === null || !Object.hasOwn(found, step)) return undefined;
      found = Reflect.get(found, step);
    }
    return found;
  };
}

const invalid = (why: string): FilterPatternError => new FilterPatternError(`Invalid filter pattern: ${why}.`);
