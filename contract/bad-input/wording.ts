/**
 * How the service words what is wrong with a request. Written down a second time, apart from the server's validator, so
 * that the two can disagree. Models are botocore's.
 */
import { type BotocoreModel, type BotocoreShape, shapeOf } from "../botocore.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** The service stops telling there. */
const MOST = 10;
/** Longer values are cut there; ours: AWS's limit is not known. */
const SHOWN = 1024;

/** What is wrong with a value at a path, each violation as a clause of the message, in the order of the service. */
export function violations(model: BotocoreModel, shape: BotocoreShape, value: Json, path: string): string[] {
  const told = constraints(shape)
    .filter(({ holds }) => !holds(value))
    .map(({ text }) => clause(model, shape, value, path, text));
  if (Array.isArray(value)) {
    const item = shapeOf(model, shape.member!.shape);
    if (isScalar(item)) {
      const failing = value.some((one) => violations(model, item, one, "").length > 0);
      return failing
        ? [...told, clause(model, shape, value, path, `Member must satisfy constraint: ${all(item)}`)]
        : told;
    }
    return [...told, ...value.flatMap((one, i) => violations(model, item, one, `${path}.${i + 1}.member`))];
  }
  if (value === null || typeof value !== "object") return told;
  if (shape.type === "map") {
    const [key, item] = [shapeOf(model, shape.key!.shape), shapeOf(model, shape.value!.shape)];
    const bad = (part: BotocoreShape, values: readonly Json[]): boolean =>
      values.some((one) => violations(model, part, one, "").length > 0);
    if (bad(key, Object.keys(value)))
      told.push(clause(model, shape, value, path, `Map keys must satisfy constraint: ${all(key)}`));
    if (bad(item, Object.values(value)))
      told.push(clause(model, shape, value, path, `Map value must satisfy constraint: ${all(item)}`));
    return told;
  }
  return [...told, ...ofMembers(model, shape, value as Record<string, Json>, `${path}.`)];
}

/** Of a structure's members; the operation's input is one. */
export function ofMembers(
  model: BotocoreModel,
  structure: BotocoreShape,
  value: Readonly<Record<string, Json>>,
  prefix: string,
): string[] {
  const members = structure.members ?? {};
  const bySpelling = new Map(Object.keys(members).map((name) => [camelCase(name), name]));
  return javaBuckets([...bySpelling.keys()])
    .flat()
    .flatMap((spelling) => {
      const name = bySpelling.get(spelling)!;
      const path = prefix + spelling;
      const given = value[name] ?? null;
      if (given !== null) return violations(model, shapeOf(model, members[name]!.shape), given, path);
      if (!structure.required?.includes(name)) return [];
      return [`Value null at '${path}' failed to satisfy constraint: Member must not be null`];
    });
}

export function message(clauses: readonly string[]): string {
  const told = clauses.slice(0, MOST);
  return `${told.length} validation error${told.length === 1 ? "" : "s"} detected: ${told.join("; ")}`;
}

/** Messages spell members so, also where the wire does not: Lambda Core's were recorded like this. */
export const camelCase = (name: string): string => name.charAt(0).toLowerCase() + name.slice(1);

function clause(model: BotocoreModel, shape: BotocoreShape, value: Json, path: string, constraint: string): string {
  const shown = isSensitive(model, shape) ? "Value" : `Value '${cut(java(value))}'`;
  return `${shown} at '${path}' failed to satisfy constraint: ${constraint}`;
}

interface Constraint {
  readonly text: string;
  readonly holds: (value: Json) => boolean;
}

function constraints(shape: BotocoreShape): Constraint[] {
  const { type, min, max, pattern } = shape;
  if (shape.enum) {
    const allowed = shape.enum;
    const text = `Member must satisfy enum value set: [${allowed.join(", ")}]`;
    return [{ text, holds: (value) => allowed.includes(String(value)) }];
  }
  if (shape.union) {
    const names = Object.keys(shape.members ?? {}).map(camelCase);
    const text = `Member must have exactly one of the members: [${names.join(", ")}]`;
    return [{ text, holds: (value) => Object.keys(value as object).length === 1 }];
  }
  const [what, size] = type === "integer" || type === "long" ? ["value", Number] : ["length", lengthOf];
  const found: Constraint[] = [];
  if (max !== undefined)
    found.push({ text: `Member must have ${what} less than or equal to ${max}`, holds: (value) => size(value) <= max });
  if (min !== undefined)
    found.push({
      text: `Member must have ${what} greater than or equal to ${min}`,
      holds: (value) => size(value) >= min,
    });
  if (pattern !== undefined)
    found.push({
      text: `Member must satisfy regular expression pattern: ${pattern}`,
      holds: (value) => new RegExp(`^(?:${pattern})$`, "u").test(String(value)),
    });
  return found;
}

const all = (shape: BotocoreShape): string =>
  `[${constraints(shape)
    .map(({ text }) => text)
    .join(", ")}]`;

function lengthOf(value: Json): number {
  if (typeof value === "string") return [...value].length;
  return Array.isArray(value) ? value.length : Object.keys(value as object).length;
}

const isScalar = ({ type }: BotocoreShape): boolean => !["list", "map", "structure"].includes(type);

function isSensitive(model: BotocoreModel, shape: BotocoreShape): boolean {
  if (shape.sensitive) return true;
  const parts = [shape.member, shape.key, shape.value, ...Object.values(shape.members ?? {})];
  return parts.some((part) => part !== undefined && isSensitive(model, shapeOf(model, part.shape)));
}

/** As Java prints lists and maps. */
function java(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(java).join(", ")}]`;
  if (typeof value !== "object" || value === null) return String(value);
  const members = Object.entries(value).map(([name, one]) => `${name}=${java(one)}`);
  return `{${members.join(", ")}}`;
}

const cut = (text: string): string => (text.length <= SHOWN ? text : `${text.slice(0, SHOWN).toWellFormed()}…`);

/**
 * The keys of a `java.util.HashMap` in their order: a table of buckets that doubles as it fills. Keys of one bucket are
 * in the order in which they came, which of the service's is not known.
 */
export function javaBuckets(keys: readonly string[]): readonly (readonly string[])[] {
  let table: string[][] = Array.from({ length: 16 }, () => []);
  const put = (key: string): void => {
    const h = [...key].reduce((hash, char) => (31 * hash + char.codePointAt(0)!) % 2 ** 32, 0);
    table[((h ^ (h >>> 16)) >>> 0) % table.length]!.push(key);
  };
  let size = 0;
  for (const key of keys) {
    put(key);
    if (++size <= table.length * 0.75) continue;
    const held = table.flat();
    table = Array.from({ length: table.length * 2 }, () => []);
    for (const one of held) put(one);
  }
  return table;
}
