import { unreadable } from "../request-error.ts";
import { queryPairs } from "../sigv4/authorization.ts";

/** Query parameters as the signature saw them: percent-decoded once, `+` is a plus. */
export type Query = ReadonlyMap<string, readonly string[]>;

/** @throws RequestError when they are not UTF-8 */
export function readQuery(url: string): Query {
  const query = new Map<string, string[]>();
  for (const [name, value] of queryPairs(url)) {
    const key = utf8(name);
    const values = query.get(key);
    if (values) values.push(utf8(value));
    else query.set(key, [utf8(value)]);
  }
  return query;
}

function utf8(bytes: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(bytes, "latin1"));
  } catch {
    throw unreadable("A query parameter is not UTF-8.");
  }
}
