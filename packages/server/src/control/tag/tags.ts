import { TorporError } from "../../lib/errors.ts";

export type Tags = Readonly<Record<string, string>>;

const RESERVED = /^aws:/i;

/**
 * The tags as they may be kept.
 * @param most tags that the resource may have
 * @throws TorporError `invalid_parameter`
 */
export function checkTags(tags: Tags, most: number): Tags {
  const names = Object.keys(tags);
  const reserved = names.find((name) => RESERVED.test(name));
  if (reserved !== undefined)
    throw invalidParameter(`The tag key ${reserved} begins with aws:, which is reserved for AWS itself.`);
  if (names.length > most)
    throw invalidParameter(`A resource can have at most ${most} tags; it would have ${names.length}.`);
  return tags;
}

/** Those of before and the new ones, which win. @throws TorporError as `checkTags` */
export const withTags = (before: Tags, added: Tags, most: number): Tags =>
  checkTags({ ...before, ...checkTags(added, most) }, most);

/** `fromEntries` makes `__proto__` a key like any other. */
export function withoutTags(before: Tags, keys: readonly string[]): Tags {
  const gone = new Set(keys);
  return Object.fromEntries(Object.entries(before).filter(([key]) => !gone.has(key)));
}

const invalidParameter = (message: string): TorporError => new TorporError("invalid_parameter", message);
