import { decode, encode, type Packet } from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeQuestion, encodeReply, parseAnswer, parseQuery, type Query } from "./message.ts";

const label = fc.stringMatching(/^[a-zA-Z0-9_-]{1,20}$/);
const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join("."));
const question = (more: Partial<Packet> = {}): Buffer =>
  encode({
    type: "query",
    id: 513,
    flags: 0x100,
    questions: [{ name: "A.example.com", type: "A", class: "IN" }],
    ...more,
  });

/** What is answered to these bytes, read. */
function refusalOf(bytes: Uint8Array): string | undefined {
  const parsed = parseQuery(bytes);
  if (!parsed || "query" in parsed) return undefined;
  expect(parsed.refusal.subarray(0, 2)).toEqual(Buffer.from(bytes.subarray(0, 2)));
  return (decode(parsed.refusal) as unknown as { readonly rcode: string }).rcode;
}

describe("a question", () => {
  test("is read whatever its name is, and asked again in our words", () => {
    fc.assert(
      fc.property(name, fc.nat(65_535), (asked, id) => {
        const parsed = parseQuery(
          encode({ type: "query", id, flags: 0x100, questions: [{ name: asked, type: "TXT" }] }),
        );
        expect(parsed).toMatchObject({
          query: { id, spelled: asked, name: asked.toLowerCase(), type: "TXT", udpBytes: 512 },
        });
        const again = decode(encodeQuestion(id, asked, "TXT"));
        expect(again.questions).toEqual([{ name: asked, type: "TXT", class: "IN" }]);
      }),
    );
  });

  test.each([
    ["two questions", question({ questions: [1, 2].map((n) => ({ name: `${n}`, type: "A" as const })) }), "FORMERR"],
    ["no question", question({ questions: [] }), "FORMERR"],
    ["another class", question({ questions: [{ name: "version.bind", type: "TXT", class: "CH" }] }), "NOTIMP"],
    ["an update", question({ flags: 0x2800 }), "NOTIMP"],
    ["a name with a space", question({ questions: [{ name: "a b.example.com", type: "A" }] }), "REFUSED"],
    ["the root", question({ questions: [{ name: ".", type: "NS" }] }), "REFUSED"],
    ["a pointer to itself", Buffer.from("000101000001000000000000c00c00010001", "hex"), "FORMERR"],
    ["counts beyond its end", Buffer.from("00010100ffffffffffffffff", "hex"), "FORMERR"],
    ["a header alone", Buffer.from("000101000001000000000000", "hex"), "FORMERR"],
  ])("with %s is refused: %s", (_, bytes, rcode) => {
    expect(refusalOf(bytes)).toBe(rcode);
  });

  test.each([
    ["an answer", question({ type: "response" })],
    ["too short to be anything", Buffer.alloc(11)],
    ["nothing", Buffer.alloc(0)],
  ])("that is %s gets no answer", (_, bytes) => {
    expect(parseQuery(bytes)).toBeUndefined();
  });

  test("of any bytes at all, or of true ones with some changed, never throws", () => {
    const changed = fc
      .tuple(fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 6 }), fc.nat(60))
      .map(([changes, length]) => {
        const bytes = Buffer.from(question());
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        return bytes.subarray(0, Math.max(0, bytes.length - (length % 20)));
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 600 }), changed), (bytes) => {
        const parsed = parseQuery(bytes);
        if (parsed && "query" in parsed)
          expect(encodeReply(parsed.query, { rcode: "REFUSED", answers: [] }, 512).length).toBeLessThanOrEqual(512);
        expect(() => parseAnswer(bytes, 513, "a.example.com", "A")).not.toThrow();
      }),
      { numRuns: 2000 },
    );
  });
});

describe("an answer", () => {
  const query: Query = {
    id: 7,
    spelled: "A.b",
    name: "a.b",
    type: "A",
    recursionDesired: true,
    udpBytes: 512,
    edns: true,
  };
  const answers = Array.from({ length: 60 }, (_, n) => ({
    type: "A" as const,
    name: "a.b",
    ttl: 1,
    data: `1.2.3.${n}`,
  }));

  test("repeats the question as it was spelled, and says why it is refused", () => {
    const reply = decode(encodeReply(query, { rcode: "REFUSED", answers: [], explanation: "no" }, 512));
    expect(reply).toMatchObject({ id: 7, rcode: "REFUSED", questions: [{ name: "A.b" }] });
    const [opt] = reply.additionals as unknown as [{ options: { code: number; data: Buffer }[] }];
    expect(opt.options[0]).toMatchObject({ code: 15, data: Buffer.from("\0\x12no") });
  });

  test("that does not fit says so, and is short", () => {
    const reply = encodeReply(query, { rcode: "NOERROR", answers }, 512);
    expect(reply.length).toBeLessThanOrEqual(512);
    expect(decode(reply)).toMatchObject({ flag_tc: true, answers: [] });
    expect(decode(encodeReply(query, { rcode: "NOERROR", answers }, 65_535)).answers).toHaveLength(60);
  });

  test.each([
    ["another id", { id: 8 }],
    ["another name", { questions: [{ name: "c.d", type: "A" as const }] }],
    ["another type", { questions: [{ name: "a.b", type: "TXT" as const }] }],
    ["no question", { questions: [] }],
    ["the form of a question", { type: "query" as const }],
  ])("with %s is not believed", (_, more) => {
    const packet: Packet = { type: "response", id: 7, questions: [{ name: "a.b", type: "A" }], answers };
    expect(parseAnswer(encode(packet), 7, "a.b", "A")?.answers).toHaveLength(60);
    expect(parseAnswer(encode({ ...packet, ...more }), 7, "a.b", "A")).toBeUndefined();
  });
});
