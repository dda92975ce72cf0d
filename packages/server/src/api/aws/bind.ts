import type { Members, Shape } from "@torpor/protocol";
import type { JsonObject, JsonValue } from "../json.ts";
import { unreadable } from "../request-error.ts";
import type { Query } from "./query.ts";

/** Where the members of an input come from. */
export interface Parts {
  /** Percent-decoded. */
  readonly labels: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: JsonValue;
}

/** Values of shapes as handlers get them; what was not sent, or sent as null, is not there. */
export type Bound = Readonly<Record<string, unknown>>;

/**
 * Brings the parts of a request into the form of the operation's input. Types are right afterwards, constraints are
 * not looked at (validate.ts). Members that the operation does not know are ignored.
 * @throws RequestError `unreadable`, in the words of the service's deserialiser
 */
export function bindInput(members: Members, parts: Parts): Bound {
  const body = readObject(parts.body);
  return compact(
    Object.entries(members).map(([name, { shape, location, queryName = name }]) => {
      if (location === "path") return [name, readText(shape, parts.labels[name])];
      if (location === "query") return [name, readQueryValue(queryName, shape, parts.query.get(queryName))];
      return [name, readJson(shape, body.get(name) ?? null)];
    }),
  );
}

function readJson(shape: Shape, value: JsonValue): unknown {
  if (value === null) return undefined;
  switch (shape.type) {
    case "string":
    case "enum":
      return typeof value === "string" ? cleanText(value) : wrongType(value, "a String");
    case "integer":
      return Number.isSafeInteger(value) ? value : wrongType(value, "an Integer");
    case "boolean":
      return typeof value === "boolean" ? value : wrongType(value, "a Boolean");
    case "timestamp":
      return typeof value === "number" ? readTimestamp(value) : wrongType(value, "a Timestamp");
    case "list":
      if (value instanceof Map) return wrongType(value, "a List");
      if (!isArray(value)) throw unreadable("Expected list or null");
      return value.map((item) => readJson(shape.member, item)).filter((item) => item !== undefined);
    case "map":
      if (isScalar(value)) throw unreadable("Expected map or null");
      return compact([...readObject(value)].map(([key, item]) => [cleanText(key), readJson(shape.value, item)]));
    case "structure":
    case "union":
      return readStructure(shape.members, readObject(value));
    default:
      return shape satisfies never;
  }
}

function readStructure(members: Members, value: JsonObject): Bound {
  return compact(Object.entries(members).map(([name, { shape }]) => [name, readJson(shape, value.get(name) ?? null)]));
}

function readObject(value: JsonValue): JsonObject {
  if (value instanceof Map) return value;
  if (isArray(value)) throw unreadable("Start of list found where not expected");
  throw unreadable("Expected null");
}

function readQueryValue(name: string, shape: Shape, values: readonly string[] | undefined): unknown {
  if (values === undefined) return undefined;
  if (shape.type === "list") return values.map((value) => readText(shape.member, value));
  if (values.length > 1) throw unreadable(`The query parameter '${name}' must be given once.`);
  return readText(shape, values[0]);
}

/** A value that came as text, in a label or a query parameter. */
function readText(shape: Shape, text: string | undefined): unknown {
  if (text === undefined) return undefined;
  if (shape.type === "integer") return readJson(shape, /^-?\d{1,16}$/.test(text) ? Number(text) : text);
  if (shape.type === "boolean") return readJson(shape, text === "true" ? true : text === "false" ? false : text);
  return readJson(shape, text);
}

function readTimestamp(seconds: number): Date {
  const date = new Date(Math.round(seconds * 1000));
  return Number.isNaN(date.getTime()) ? wrongType(seconds, "a Timestamp") : date;
}

/** Neither half a character nor NUL, which not every store and no C program can keep. */
function cleanText(text: string): string {
  if (!text.isWellFormed()) throw unreadable("A string holds half of a surrogate pair.");
  if (text.includes("\0")) throw unreadable("A string holds a NUL character.");
  return text;
}

function wrongType(value: JsonValue, wanted: string): never {
  if (value instanceof Map) throw unreadable("Start of structure or map found where not expected.");
  if (isArray(value)) throw unreadable("Start of list found where not expected");
  const found =
    typeof value === "boolean" ? String(value).toUpperCase() : typeof value === "number" ? "NUMBER" : "STRING";
  throw unreadable(`${found}_VALUE can not be converted to ${wanted}`);
}

/** `fromEntries` makes `__proto__` a member like any other. */
const compact = (entries: readonly (readonly [string, unknown])[]): Bound =>
  Object.fromEntries(entries.filter(([, value]) => value !== undefined));
const isArray = (value: JsonValue): value is readonly JsonValue[] => Array.isArray(value);
const isScalar = (value: JsonValue): boolean => !isArray(value) && !(value instanceof Map);
