import fc from "fast-check";
import { expect, test } from "vitest";
import { linesOf, listOf, valuesOf } from "../header-lines.ts";
import { Refused } from "../refusal.ts";
import { linesForApp } from "../relayed-headers.ts";
import { readHttp2Head } from "./http2-head.ts";

const LIMITS = { maxHeaderBytes: 32 * 1024, maxHeaderLines: 100 };
const good = [":method", "POST", ":scheme", "https", ":authority", "a.example", ":path", "/"];

test("a length says whether there is a body, its absence that its end will show", () => {
  const body = (lines: string[], ended: boolean) => readHttp2Head([...good, ...lines], ended, LIMITS).body;
  expect(body([], true)).toBe("none");
  expect(body([], false)).toBe("chunked");
  expect(body(["content-length", "5"], false)).toBe("sized");
  expect(body(["content-length", "0"], false)).toBe("none");
});

test("the host comes from :authority, or from Host where there is none", () => {
  const bare = good.filter((_, i) => i !== 4 && i !== 5);
  expect(readHttp2Head(good, true, LIMITS)).toMatchObject({ host: "a.example", lines: ["Host", "a.example"] });
  expect(readHttp2Head([...bare, "host", "B.example:443"], true, LIMITS)).toMatchObject({ host: "b.example" });
  expect(readHttp2Head([...good, "host", "A.EXAMPLE"], true, LIMITS)).toMatchObject({ host: "a.example" });
  expect(() => readHttp2Head(bare, true, LIMITS)).toThrow(Refused);
});

/** What an attacker would write: names and values near those that matter, with anything in them. */
const odd = fc.oneof(
  fc.constantFrom("", "chunked", "5", "a.example", "/", "GET", "close", "a\r\nHost: b", "x\ny", "x\0", "trailers"),
  fc.string({ unit: "binary", maxLength: 12 }),
);
const name = fc.oneof(
  fc.constantFrom(
    ...[":method", ":path", ":authority", ":scheme", ":protocol", ":status", "host", "cookie", "te", "Upper"],
    ...["connection", "transfer-encoding", "content-length", "upgrade", "x", "trailer", "expect"],
  ),
  fc.string({ maxLength: 8 }),
);

test("whatever is sent: refused, or one request of HTTP/1.1 with one host and one framing", () => {
  const more = fc.array(fc.tuple(name, odd), { maxLength: 4 });
  const base = fc.array(fc.tuple(fc.nat(3), odd), { maxLength: 1 }).map((changes) => {
    const lines = [...good];
    for (const [at, value] of changes) lines[at * 2 + 1] = value;
    return lines;
  });
  fc.assert(
    fc.property(base, more, fc.boolean(), (lines, extra, ended) => {
      let head: ReturnType<typeof readHttp2Head>;
      try {
        head = readHttp2Head([...lines, ...extra.flat()], ended, LIMITS);
      } catch (err) {
        expect(err).toBeInstanceOf(Refused);
        return;
      }
      const forApp = linesForApp(head, "id", undefined);
      for (const [field, value] of linesOf(forApp)) {
        expect(value).not.toMatch(/[\r\n\0]/);
        expect(field).toMatch(/^[!#$%&'*+.^_`|~0-9a-zA-Z-]+$/);
      }
      expect(`${head.method} ${head.target}`).toMatch(/^[^\s]+ (\/[^\s]*|\*)$/);
      expect(valuesOf(forApp, "host")).toHaveLength(1);
      const framing = valuesOf(forApp, "content-length").length + valuesOf(forApp, "transfer-encoding").length;
      expect(framing).toBe(head.body === "none" ? valuesOf(forApp, "content-length").length : 1);
      expect(listOf(forApp, "connection")).toHaveLength(1); // ours
    }),
    { numRuns: 5000 },
  );
});
