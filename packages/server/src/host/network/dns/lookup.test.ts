import type { Answer } from "dns-packet";
import { describe, expect, test } from "vitest";
import { nameMatcher } from "../egress.ts";
import { type Ask, type LookupRules, lookUp } from "./lookup.ts";
import type { Query } from "./message.ts";

const query = (name: string, type = "A"): Query => ({
  ...{ id: 1, spelled: name, name, type, recursionDesired: true, udpBytes: 512, edns: false },
});
const RULES: LookupRules = {
  allows: nameMatcher(["a.b", "*.c.d"]),
  unlisted: false,
  sets: [
    { name: "first", wants: nameMatcher(["a.b", "*.c.d"]), admits: (address) => address.startsWith("5.") },
    { name: "second", wants: nameMatcher(["a.b"]), admits: () => true },
  ],
};
const a = (name: string, data: string, ttl = 60): Answer => ({ type: "A", name, ttl, data });
const alias = (name: string, data: string): Answer => ({ type: "CNAME", name, ttl: 60, data });
function server(zone: Readonly<Record<string, readonly Answer[]>>): { ask: Ask; asked: string[] } {
  const asked: string[] = [];
  const ask: Ask = async (name, type) => {
    asked.push(`${type} ${name}`);
    const answers = zone[name];
    return { rcode: answers ? "NOERROR" : "NXDOMAIN", truncated: false, answers: answers ?? [], authorities: [] };
  };
  return { ask, asked };
}

describe("an address", () => {
  test("is opened in each set that wants the name and admits it, for as long as it is remembered", async () => {
    const { ask } = server({ "a.b": [a("a.b", "5.0.0.1", 30), a("a.b", "6.0.0.1", 100_000)] });
    expect((await lookUp(query("a.b"), RULES, ask)).openings).toEqual([
      { set: "first", address: "5.0.0.1", seconds: 30 },
      { set: "second", address: "5.0.0.1", seconds: 30 },
      { set: "second", address: "6.0.0.1", seconds: 3600 },
    ]);
  });

  test("of a name's alias is opened, and of a name that merely came along is not", async () => {
    const { ask } = server({
      "x.c.d": [
        alias("X.C.D", "y.elsewhere"),
        a("y.elsewhere", "5.0.0.1"),
        a("z.elsewhere", "5.0.0.2"),
        a("x.c.d.evil", "5.0.0.3"),
      ],
    });
    const { reply, openings } = await lookUp(query("x.c.d"), RULES, ask);
    expect(openings.map(({ address }) => address)).toEqual(["5.0.0.1"]);
    expect(reply.answers).toHaveLength(2);
  });

  test("of an alias that leads on elsewhere is asked for", async () => {
    const { ask, asked } = server({
      "a.b": [alias("a.b", "one")],
      one: [alias("one", "two")],
      two: [a("two", "5.0.0.9")],
    });
    const { reply, openings } = await lookUp(query("a.b"), RULES, ask);
    expect(asked).toEqual(["A a.b", "A one", "A two"]);
    expect(openings).toHaveLength(2);
    expect(reply.answers).toHaveLength(3);
  });

  test("of aliases in a circle, or without end, is none", async () => {
    const circle = server({ "a.b": [alias("a.b", "one"), alias("one", "a.b")] });
    expect((await lookUp(query("a.b"), RULES, circle.ask).catch(() => ({ openings: [] }))).openings).toEqual([]);
    expect(circle.asked.length).toBeLessThan(10);
    const endless: Ask = async (name) => ({
      ...{ rcode: "NOERROR", truncated: false, authorities: [], answers: [alias(name, `x${name}`)] },
    });
    await expect(lookUp(query("a.b"), RULES, endless)).rejects.toThrow(/from alias to alias/);
  });
});

describe("a question", () => {
  test.each(["A", "TXT", "AAAA", "ANY"])(
    "of type %s for a name that is not allowed is refused and asks nobody",
    async (type) => {
      const { ask, asked } = server({});
      expect((await lookUp(query("c.d", type), RULES, ask)).reply.rcode).toBe("REFUSED");
      expect(asked).toEqual([]);
    },
  );

  test("for something else than addresses is passed on, without what nobody asked for", async () => {
    const { ask } = server({ "a.b": [{ type: "TXT", name: "a.b", ttl: 1, data: "hi" }, a("a.b", "5.0.0.1")] });
    const { reply, openings } = await lookUp(query("a.b", "TXT"), RULES, ask);
    expect(reply.answers).toMatchObject([{ type: "TXT" }]);
    expect(openings).toEqual([]);
  });

  test.each(["ANY", "AXFR", "NULL", "UNKNOWN_999"])("of type %s is not answered", async (type) => {
    const { ask, asked } = server({ "a.b": [] });
    expect((await lookUp(query("a.b", type), RULES, ask)).reply.rcode).toBe("NOTIMP");
    expect(asked).toEqual([]);
  });

  test("for a name that is not there is answered so", async () => {
    const { ask } = server({});
    expect((await lookUp(query("x.c.d"), RULES, ask)).reply).toMatchObject({ rcode: "NXDOMAIN", answers: [] });
  });
});
