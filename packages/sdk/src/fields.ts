import { ApiError } from "./api-error.ts";

/** The members of an answer; none when it is no object. */
export const fieldsOf = (value: unknown): Map<string, unknown> =>
  new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);

/** @throws ApiError */
export function textIn(fields: Map<string, unknown>, name: string, what: string): string {
  const value = fields.get(name);
  if (typeof value !== "string") throw unexpected(what);
  return value;
}

/** @throws ApiError when it is there and no text */
export function optionalTextIn(fields: Map<string, unknown>, name: string, what: string): string | null {
  return (fields.get(name) ?? null) === null ? null : textIn(fields, name, what);
}

/** @throws ApiError */
export function numberIn(fields: Map<string, unknown>, name: string, what: string): number {
  const value = fields.get(name);
  if (typeof value !== "number") throw unexpected(what);
  return value;
}

/** @throws ApiError when it is there and no number */
export function optionalNumberIn(fields: Map<string, unknown>, name: string, what: string): number | null {
  return (fields.get(name) ?? null) === null ? null : numberIn(fields, name, what);
}

/** @throws ApiError */
export function listIn(fields: Map<string, unknown>, name: string, what: string): readonly unknown[] {
  const value = fields.get(name);
  if (!Array.isArray(value)) throw unexpected(what);
  return value;
}

/** @throws ApiError */
export function oneOf<const V extends string>(known: readonly V[], value: unknown, what: string): V {
  const found = known.find((each) => each === value);
  if (found === undefined) throw unexpected(what);
  return found;
}

export const unexpected = (what: string): ApiError =>
  new ApiError(200, "BadResponse", `the server's answer is no ${what}: is it Torpor, and of this version?`, undefined);
