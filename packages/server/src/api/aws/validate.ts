import type { Members, Shape } from "@torpor/protocol";
import { invalidInput } from "../../lib/errors.ts";
import type { Bound } from "./bind.ts";
import { memberOrder } from "./member-order.ts";

/** The service stops counting there. */
const MOST_VIOLATIONS = 10;
/** Of a value, in a message. */
const MOST_CHARS = 1024;

/**
 * Checks the constraints of the operation's model, all at once, before any logic of the service.
 * @throws TorporError `invalid_input` in the service's words
 */
export function validateInput(members: Members, input: Bound): void {
  const violations = [...ofMembers(members, input, "")].slice(0, MOST_VIOLATIONS);
  if (violations.length === 0) return;
  const count = violations.length === 1 ? "1 validation error" : `${violations.length} validation errors`;
  throw invalidInput(`${count} detected: ${violations.join("; ")}`);
}

/** Messages have small first letters, also where the wire has capitals. */
const spelled = (name: string): string => name.charAt(0).toLowerCase() + name.slice(1);

function* ofMembers(all: Members, values: Bound, prefix: string): Generator<string> {
  const members = new Map(Object.entries(all).map(([name, member]) => [spelled(name), { name, ...member }]));
  for (const spelling of memberOrder([...members.keys()])) {
    const { name, shape, required } = members.get(spelling)!;
    const value = values[name];
    const path = prefix + spelling;
    if (value !== undefined) yield* ofValue(shape, value, path);
    else if (required) yield `Value null at '${path}' failed to satisfy constraint: Member must not be null`;
  }
}

function* ofValue(shape: Shape, value: unknown, path: string): Generator<string> {
  const violated = (constraint: string): string => {
    const shown = isSensitive(shape) ? "Value" : `Value '${shorten(display(value))}'`;
    return `${shown} at '${path}' failed to satisfy constraint: ${constraint}`;
  };
  for (const { text, holds } of constraintsOf(shape)) if (!holds(value)) yield violated(text);
  switch (shape.type) {
    case "list":
      if (isScalar(shape.member)) {
        if (!asList(value).every((item) => satisfies(shape.member, item)))
          yield violated(`Member must satisfy constraint: ${listed(shape.member)}`);
      } else
        for (const [i, item] of asList(value).entries()) yield* ofValue(shape.member, item, `${path}.${i + 1}.member`);
      break;
    case "map":
      if (!Object.keys(asRecord(value)).every((key) => satisfies(shape.key, key)))
        yield violated(`Map keys must satisfy constraint: ${listed(shape.key)}`);
      if (isScalar(shape.value)) {
        if (!Object.values(asRecord(value)).every((item) => satisfies(shape.value, item)))
          yield violated(`Map value must satisfy constraint: ${listed(shape.value)}`);
      } else
        for (const [key, item] of Object.entries(asRecord(value)))
          yield* ofValue(shape.value, item, `${path}.${key}.member`);
      break;
    case "structure":
    case "union":
      yield* ofMembers(shape.members, asRecord(value), `${path}.`);
      break;
  }
}

/** The table's patterns, a few dozen. */
const COMPILED = new Map<string, RegExp>();

interface Constraint {
  readonly text: string;
  readonly holds: (value: unknown) => boolean;
}

/** In the order in which the service names them. */
function constraintsOf(shape: Shape): readonly Constraint[] {
  switch (shape.type) {
    case "string":
      return [...bounds(shape, "length", lengthOf), ...(shape.pattern === undefined ? [] : [pattern(shape.pattern)])];
    case "list":
    case "map":
      return bounds(shape, "length", lengthOf);
    case "integer":
      return bounds(shape, "value", Number);
    case "enum":
      return [
        {
          text: `Member must satisfy enum value set: [${shape.values.join(", ")}]`,
          holds: (value) => shape.values.some((allowed) => allowed === value),
        },
      ];
    case "union":
      return [
        {
          text: `Member must have exactly one of the members: [${Object.keys(shape.members).map(spelled).join(", ")}]`,
          holds: (value) => Object.keys(asRecord(value)).length === 1,
        },
      ];
    case "boolean":
    case "timestamp":
    case "structure":
      return [];
    default:
      return shape satisfies never;
  }
}

function bounds(
  { min, max }: { readonly min?: number; readonly max?: number },
  what: "length" | "value",
  measure: (value: unknown) => number,
): Constraint[] {
  const found: Constraint[] = [];
  if (max !== undefined)
    found.push({ text: `Member must have ${what} less than or equal to ${max}`, holds: (v) => measure(v) <= max });
  if (min !== undefined)
    found.push({ text: `Member must have ${what} greater than or equal to ${min}`, holds: (v) => measure(v) >= min });
  return found;
}

/** Patterns cover the whole value, whether or not they say so. */
function pattern(source: string): Constraint {
  const whole = COMPILED.get(source) ?? new RegExp(`^(?:${source})$`, "u");
  COMPILED.set(source, whole);
  return {
    text: `Member must satisfy regular expression pattern: ${source}`,
    holds: (value) => whole.test(String(value)),
  };
}

/** Characters of a text, not code units; entries of a list or map. */
function lengthOf(value: unknown): number {
  if (typeof value !== "string") return Array.isArray(value) ? value.length : Object.keys(asRecord(value)).length;
  let length = value.length;
  for (const _ of value.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)) length--;
  return length;
}

const satisfies = (shape: Shape, value: unknown): boolean => constraintsOf(shape).every(({ holds }) => holds(value));
const listed = (shape: Shape): string =>
  `[${constraintsOf(shape)
    .map(({ text }) => text)
    .join(", ")}]`;

function isScalar(shape: Shape): boolean {
  return !["list", "map", "structure", "union"].includes(shape.type);
}

function isSensitive(shape: Shape): boolean {
  switch (shape.type) {
    case "string":
      return shape.sensitive === true;
    case "list":
      return isSensitive(shape.member);
    case "map":
      return isSensitive(shape.key) || isSensitive(shape.value);
    case "structure":
    case "union":
      return Object.values<Members[string]>(shape.members).some((member) => isSensitive(member.shape));
    default:
      return false;
  }
}

/** As Java prints it. */
function display(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(display).join(", ")}]`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, item]) => `${key}=${display(item)}`)
      .join(", ")}}`;
  return String(value);
}

const shorten = (text: string): string =>
  text.length <= MOST_CHARS ? text : `${text.slice(0, MOST_CHARS).toWellFormed()}…`;
const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const asRecord = (value: unknown): Bound => (typeof value === "object" && value !== null ? { ...value } : {});
