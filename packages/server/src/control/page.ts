import { createHash } from "node:crypto";
import { invalidInput } from "../lib/errors.ts";
import type { Position } from "../store/newest-first.ts";

/** More would be no help and less surprises nobody: the service's own default is not published. */
const DEFAULT_PAGE_SIZE = 50;

/** What a page token belongs to: operation, account and filters. A token is worth nothing elsewhere. */
export type PageScope = readonly (string | number | null | undefined)[];

/** An opaque token for the place `position` in the list that `scope` describes. */
export function pageToken(scope: PageScope, position: readonly unknown[]): string {
  return Buffer.from(JSON.stringify([digest(scope, position), ...position])).toString("base64url");
}

/**
 * The position in a token that `pageToken` made for the same scope; its members still need a look.
 * @throws TorporError `invalid_input` for every other text
 */
export function parsePageToken(scope: PageScope, token: string, tokenName?: string): readonly unknown[] {
  if (token.length <= 1024 && /^[A-Za-z0-9_-]+$/.test(token)) {
    try {
      const parsed: unknown = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
      if (Array.isArray(parsed) && pageToken(scope, parsed.slice(1)) === token) return parsed.slice(1);
    } catch {
      // not JSON: refused below
    }
  }
  throw invalidPageToken(tokenName);
}

export const invalidPageToken = (tokenName = "nextToken") =>
  invalidInput(`The ${tokenName} is not valid. Use the one of the previous page, with the same filters.`);

/** What a caller says about the page that it wants. */
export interface PageRequest {
  readonly maxResults?: number | null | undefined;
  readonly nextToken?: string | null | undefined;
  /** What the operation calls it. */
  readonly tokenName?: string;
}
export interface Page<T> {
  readonly items: readonly T[];
  readonly nextToken: string | null;
}

/** Where an item stands in its list: what the next page begins behind. */
export interface Positions<T, P> {
  of(item: T): readonly (string | number)[];
  /** Undefined when these cannot be what `of` made. */
  parse(parts: readonly unknown[]): P | undefined;
}

/** Of a list that has the newest first. */
export const newestFirst = <T>(position: (item: T) => Position): Positions<T, Position> => ({
  of(item) {
    const { time, key } = position(item);
    return [time, key];
  },
  parse: ([time, key]) =>
    Number.isSafeInteger(time) && typeof key === "string" ? { time: Number(time), key } : undefined,
});

/**
 * A page of a list that is read from behind a position: stable while items come and go.
 * @throws TorporError `invalid_input` for a token that is not of this list
 */
export async function readPage<T, P>(
  scope: PageScope,
  request: PageRequest,
  positions: Positions<T, P>,
  read: (after: P | undefined, limit: number) => Promise<readonly T[]> | readonly T[],
): Promise<Page<T>> {
  let after: P | undefined;
  if (request.nextToken) {
    after = positions.parse(parsePageToken(scope, request.nextToken, request.tokenName));
    if (after === undefined) throw invalidPageToken(request.tokenName);
  }
  const size = request.maxResults ?? DEFAULT_PAGE_SIZE;
  // One more than asked for tells whether there is a next page.
  const found = await read(after, size + 1);
  const items = found.slice(0, size);
  const last = items.at(-1);
  const more = found.length > size && last !== undefined;
  return { items, nextToken: more ? pageToken(scope, positions.of(last)) : null };
}

/** Of the place too, so that no token is one by chance or by a slip of the hand. Nobody gains by making one. */
function digest(scope: PageScope, position: readonly unknown[]): string {
  return createHash("sha256")
    .update(JSON.stringify([scope.map((part) => part ?? null), position]))
    .digest("base64url")
    .slice(0, 16);
}
