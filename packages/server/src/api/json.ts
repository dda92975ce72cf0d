import { unreadable } from "./request-error.ts";

/** Objects are maps, so that no name in them can be mistaken for anything of JavaScript's. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export type JsonObject = ReadonlyMap<string, JsonValue>;

/** Objects and arrays in each other. */
export const MAX_DEPTH = 32;

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERALS: ReadonlyMap<string, JsonValue> = new Map<string, JsonValue>([
  ["null", null],
  ["true", true],
  ["false", false],
]);

/**
 * Strict JSON in UTF-8. Names that come twice in an object are refused, since readers disagree about which one counts,
 * and so are numbers that are too large to be one.
 * @throws RequestError `unreadable`
 */
export function parseJson(bytes: Uint8Array): JsonValue {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw unreadable("The request body is not UTF-8.");
  }
  return new Parser(text).whole();
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): JsonValue {
    const value = this.#value(0);
    if (this.#at < this.#text.length) throw this.#unexpected("the end");
    return value;
  }

  #value(depth: number): JsonValue {
    this.#skipSpace();
    const value = this.#bareValue(depth);
    this.#skipSpace();
    return value;
  }

  #bareValue(depth: number): JsonValue {
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(depth + 1);
      case "[":
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      default:
        return this.#literal();
    }
  }

  #object(depth: number): JsonObject {
    this.#enter(depth);
    const members = new Map<string, JsonValue>();
    this.#skipSpace();
    if (this.#take("}")) return members;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') throw this.#unexpected("a member's name");
      const name = this.#string();
      if (members.has(name)) throw unreadable(`The request body has the member ${JSON.stringify(name)} twice.`);
      this.#skipSpace();
      if (!this.#take(":")) throw this.#unexpected("a colon");
      members.set(name, this.#value(depth));
    } while (this.#take(","));
    if (!this.#take("}")) throw this.#unexpected("a comma or a closing brace");
    return members;
  }

  #array(depth: number): readonly JsonValue[] {
    this.#enter(depth);
    const items: JsonValue[] = [];
    this.#skipSpace();
    if (this.#take("]")) return items;
    do items.push(this.#value(depth));
    while (this.#take(","));
    if (!this.#take("]")) throw this.#unexpected("a comma or a closing bracket");
    return items;
  }

  #string(): string {
    const start = this.#at;
    let end = start;
    do {
      end = this.#text.indexOf('"', end + 1);
      if (end < 0) throw this.#unexpected("a string with an end");
    } while (this.#escaped(end, start));
    this.#at = end + 1;
    try {
      const value: unknown = JSON.parse(this.#text.slice(start, this.#at));
      return String(value);
    } catch {
      this.#at = start;
      throw this.#unexpected("a string without control characters or unknown escapes");
    }
  }

  /** Whether the quote at `quote` belongs to the string that begins at `start`. */
  #escaped(quote: number, start: number): boolean {
    let backslash = quote - 1;
    while (backslash > start && this.#text[backslash] === "\\") backslash--;
    return (quote - 1 - backslash) % 2 === 1;
  }

  #literal(): JsonValue {
    for (const [word, value] of LITERALS)
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    NUMBER.lastIndex = this.#at;
    const digits = NUMBER.exec(this.#text)?.[0];
    if (digits === undefined) throw this.#unexpected("a value");
    const value = Number(digits);
    if (!Number.isFinite(value)) throw this.#unexpected("a smaller number");
    this.#at += digits.length;
    return value;
  }

  #enter(depth: number): void {
    if (depth > MAX_DEPTH) throw unreadable(`The request body is nested deeper than ${MAX_DEPTH} levels.`);
    this.#at++;
  }

  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    SPACE.lastIndex = this.#at;
    SPACE.test(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #unexpected(wanted: string): Error {
    return unreadable(`The request body is not JSON: expected ${wanted} at character ${this.#at}.`);
  }
}
