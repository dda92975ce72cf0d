import type { Members, Shape } from "@torpor/protocol";

/**
 * An operation's output as JSON text. Members that are unset are written as null in the answer itself and in the items
 * of its lists, as the service does; in structures that echo what the caller once sent they are left out.
 * @throws Error when the output does not fit its shape: our bug, not the caller's
 */
export function serializeOutput(members: Members, output: object, unset: Unset = "null"): string {
  return JSON.stringify(writeMembers(members, output, "", unset));
}

export type Unset = "null" | "omit";

function writeMembers(members: Members, value: object, path: string, unset: Unset): Record<string, unknown> {
  const values = new Map<string, unknown>(Object.entries(value));
  const written: [string, unknown][] = [];
  for (const [name, { shape, required }] of Object.entries(members)) {
    const member = values.get(name);
    const ofAnswer = path === "" && unset === "null";
    if (member !== undefined && member !== null) written.push([name, write(shape, member, path + name, ofAnswer)]);
    else if (required) throw new Error(`the output lacks its required member ${path}${name}`);
    else if (member === null || unset === "null") written.push([name, null]);
  }
  return Object.fromEntries(written);
}

function write(shape: Shape, value: unknown, path: string, top: boolean): unknown {
  switch (shape.type) {
    case "string":
      return typeof value === "string" ? value : misfit(path, "a string");
    case "enum":
      return shape.values.some((allowed) => allowed === value) ? value : misfit(path, `one of ${shape.values}`);
    case "integer":
      return Number.isSafeInteger(value) ? value : misfit(path, "an integer");
    case "boolean":
      return typeof value === "boolean" ? value : misfit(path, "a boolean");
    case "timestamp":
      if (!(value instanceof Date) || Number.isNaN(value.getTime())) return misfit(path, "a date");
      return shape.format === "iso8601" ? value.toISOString() : value.getTime() / 1000;
    case "list":
      if (!Array.isArray(value)) return misfit(path, "a list");
      return value.map((item, i) => writeItem(shape.member, item, `${path}[${i}]`, top));
    case "map":
      if (!isObject(value)) return misfit(path, "a map");
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, write(shape.value, item, `${path}.${key}`, false)]),
      );
    case "structure":
    case "union":
      return isObject(value) ? writeMembers(shape.members, value, `${path}.`, "omit") : misfit(path, "a structure");
    default:
      return shape satisfies never;
  }
}

function writeItem(shape: Shape, item: unknown, path: string, top: boolean): unknown {
  if (top && shape.type === "structure" && isObject(item)) return writeMembers(shape.members, item, `${path}.`, "null");
  return write(shape, item, path, false);
}

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function misfit(path: string, wanted: string): never {
  throw new Error(`the output's member ${path} is not ${wanted}`);
}
