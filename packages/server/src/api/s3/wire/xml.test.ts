import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { child, children, parseXml } from "./xml-read.ts";
import { element, rootElement } from "./xml-write.ts";

const parse = (text: string): ReturnType<typeof parseXml> => parseXml(Buffer.from(text));

describe("XML", () => {
  test("that was written is read as it was meant, whatever the text", () => {
    const text = fc.string({ unit: "binary", maxLength: 20 }).filter((t) => t.isWellFormed() && !/\0/.test(t));
    fc.assert(
      fc.property(fc.array(text, { maxLength: 4 }), (texts) => {
        const root = parse(
          rootElement(
            "Root",
            texts.map((t) => element("Item", t)),
          ).text,
        );
        expect(children(root, "Item").map((item) => item.text)).toEqual(texts);
      }),
    );
  });

  test("may have a declaration, attributes, comments, prefixes, empty elements and references", () => {
    const root = parse(`<?xml version="1.0" encoding="UTF-8"?><!-- c -->
      <s3:Delete xmlns:s3="http://x/" a='b>'><!-- < & --> <Quiet /><Key>a&lt;&#98;&#x63;<!-- x -->d</Key></s3:Delete> `);
    expect(root.name).toBe("Delete");
    expect(child(root, "Key")?.text).toBe("a<bcd");
    expect(child(root, "Quiet")?.text).toBe("");
    expect(child(root, "Absent")).toBeUndefined();
  });

  test.each([
    ["", "nothing"],
    ["text", "no element"],
    ["<a>", "an open element"],
    ["<a></b>", "crossed names"],
    ["<a/><b/>", "two roots"],
    ["<a/>x", "text after the root"],
    ['<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "a document type"],
    ['<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "an external document type"],
    ["<a>&x;</a>", "an unknown entity"],
    ["<a>&amp</a>", "an open reference"],
    ["<a>&#0;</a>", "NUL"],
    ["<a>&#xD800;</a>", "half a character"],
    ["<a>&#x110000;</a>", "no character"],
    ["<a><![CDATA[x]]></a>", "CDATA"],
    ["<a><?php x?></a>", "an instruction"],
    ["<a b=c/>", "a bare attribute"],
    ["<a><!-- </a>", "an open comment"],
    [`${"<a>".repeat(100)}${"</a>".repeat(100)}`, "depth"],
  ])("is refused: %s (%s)", (text) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: "MalformedXML" }));
  });

  test("is refused when it is not UTF-8", () => {
    expect(() => parseXml(Buffer.from([0x3c, 0x61, 0x3e, 0xff, 0x3c, 0x2f, 0x61, 0x3e]))).toThrow();
  });

  test("of any kind is read or refused, never worse", () => {
    const piece = fc.constantFrom(
      "<",
      ">",
      "</a>",
      "<a>",
      "<a/>",
      "<!--",
      "-->",
      "&amp;",
      "&",
      "x",
      '"',
      "<?xml ?>",
      " ",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 15 }), (pieces) => {
        try {
          expect(parse(pieces.join("")).name).toBe("a");
        } catch (err) {
          expect(err).toMatchObject({ code: "MalformedXML" });
        }
      }),
      { numRuns: 500 },
    );
  });

  test("of a megabyte is read in time that grows with it, also where it is built to be slow", () => {
    for (const nasty of [
      `<a${" ".repeat(1 << 20)}`,
      `<a>${"&".repeat(1 << 20)}</a>`,
      `<?xml ${"x".repeat(1 << 20)}`,
      `<a ${'b="c" '.repeat(1 << 17)}`,
    ])
      expect(() => parse(nasty)).toThrow();
  });
});
