import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KeyIndex, type ListedObject, type ListQuery } from "./key-index.ts";

const object = (key: string, size = 1): ListedObject => ({ key, size, etag: "e", lastModified: 0 });
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** Few letters, so that prefixes and delimiters meet; among them ones that UTF-16 sorts differently than UTF-8. */
const key = fc
  .array(fc.constantFrom("a", "b", "/", "//", "é", "\u{ffee}", "\u{1f600}", "\u0001"), { minLength: 1, maxLength: 6 })
  .map((parts) => parts.join(""));

/** What S3 documents, over a plain sorted array, group by group. */
function model(keys: string[], query: ListQuery): string[] {
  const prefix = query.prefix ?? "";
  const after = query.after ?? "";
  const groups = new Set<string>();
  for (const k of [...new Set(keys)].sort(byBytes)) {
    if (!k.startsWith(prefix) || (after !== "" && byBytes(k, after) <= 0)) continue;
    const cut = query.delimiter ? k.indexOf(query.delimiter, prefix.length) : -1;
    const group = cut < 0 ? k : k.slice(0, cut + (query.delimiter ?? "").length);
    if (cut >= 0 && group === after) continue;
    groups.add(group);
  }
  return [...groups].sort(byBytes);
}

const names = (page: ReturnType<KeyIndex["list"]>): string[] =>
  [...page.objects.map((o) => o.key), ...page.commonPrefixes].sort(byBytes);

describe("key index", () => {
  test("lists as a sorted array does, for every prefix, delimiter and start", () => {
    fc.assert(
      fc.property(
        fc.array(key, { maxLength: 30 }),
        fc.record({
          prefix: fc.option(key, { nil: "" }),
          delimiter: fc.constantFrom("", "/", "//", "é"),
          after: fc.option(key, { nil: "" }),
        }),
        (keys, query) => {
          const index = new KeyIndex(new Map(keys.map((k) => [k, object(k)])).values());
          const page = index.list({ ...query, max: 1000 });
          expect(names(page)).toEqual(model(keys, { ...query, max: 1000 }));
          expect(page.truncated).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("pages of any size give everything once", () => {
    fc.assert(
      fc.property(
        fc.array(key, { maxLength: 30 }),
        fc.option(key, { nil: "" }),
        fc.constantFrom("", "/"),
        fc.integer({ min: 1, max: 5 }),
        (keys, prefix, delimiter, max) => {
          const index = new KeyIndex(new Map(keys.map((k) => [k, object(k)])).values());
          const seen: string[] = [];
          let after = "";
          for (;;) {
            const page = index.list({ prefix, delimiter, after, max });
            seen.push(...names(page));
            if (!page.truncated) break;
            expect(names(page)).toHaveLength(max);
            after = page.last!;
          }
          expect(seen).toEqual(model(keys, { prefix, delimiter, max }));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("any run of puts and deletes leaves what a map would hold", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(key, fc.option(fc.nat(9), { nil: undefined })), { maxLength: 60 }), (steps) => {
        const index = new KeyIndex();
        const map = new Map<string, ListedObject>();
        for (const [k, size] of steps) {
          if (size === undefined) {
            index.delete(k);
            map.delete(k);
          } else {
            index.put(object(k, size));
            map.set(k, object(k, size));
          }
        }
        const expected = [...map.values()].sort((a, b) => byBytes(a.key, b.key));
        expect(index.list({ max: 1000 }).objects).toEqual(expected);
        expect(index.size).toBe(map.size);
      }),
    );
  });

  test("a page of no keys is empty and complete", () => {
    const index = new KeyIndex([object("a")]);
    expect(index.list({ max: 0 })).toEqual({ objects: [], commonPrefixes: [], truncated: false, last: undefined });
  });
});
