import { createHash } from "node:crypto";
import { invalidInput } from "../lib/errors.ts";

/** More would be no help and less surprises nobody: the service's own default is not published. */
export const DEFAULT_PAGE_SIZE = 50;

/** What a page token belongs to: operation, account and filters. A token is worth nothing elsewhere. */
export type PageScope = readonly (string | number | null | undefined)[];

/** An opaque token for the place `position` in the list that `scope` describes. */
export function pageToken(scope: PageScope, position: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify([scopeDigest(scope), ...position])).toString("base64url");
}

/**
 * The position in a token that `pageToken` made for the same scope; its members still need a look.
 * @throws TorporError `invalid_input` for every other text
 */
export function parsePageToken(scope: PageScope, token: string): readonly unknown[] {
  if (token.length <= 1024 && /^[A-Za-z0-9_-]+$/.test(token)) {
    try {
      const parsed: unknown = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
      if (Array.isArray(parsed) && parsed[0] === scopeDigest(scope)) return parsed.slice(1);
    } catch {
      // not JSON: refused below
    }
  }
  throw invalidPageToken();
}

export const invalidPageToken = () =>
  invalidInput("The nextToken is not valid. Use the one of the previous page, with the same filters.");

function scopeDigest(scope: PageScope): string {
  return createHash("sha256")
    .update(JSON.stringify(scope.map((part) => part ?? null)))
    .digest("base64url")
    .slice(0, 16);
}
