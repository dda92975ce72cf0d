import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TorporError } from "../../lib/errors.ts";
import { matchesGlob } from "./glob.ts";
import { allowsSomewhere, decide, MAX_POLICY_BYTES, parsePolicy } from "./policy.ts";

const ARN = "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo";
const policy = (...statements: readonly object[]) => parsePolicy({ Version: "2012-10-17", Statement: statements });
const allow = (Action: string | string[], Resource: string | string[] = "*") => ({ Effect: "Allow", Action, Resource });

describe("a pattern", () => {
  // Few letters, so that patterns and texts meet; one beyond the basic plane, which ? takes whole.
  const letter = fc.constantFrom("a", "b", ".", "(", "😀");
  const text = fc.array(letter, { maxLength: 12 }).map((letters) => letters.join(""));
  const pattern = fc
    .array(fc.oneof({ weight: 3, arbitrary: letter }, fc.constantFrom("*", "?")), { maxLength: 8 })
    .map((letters) => letters.join(""));

  /** Straight from the definition, and exponential. */
  function model(p: readonly string[], t: readonly string[]): boolean {
    const [first, ...rest] = p;
    if (first === undefined) return t.length === 0;
    if (first === "*") return t.some((_, n) => model(rest, t.slice(n))) || model(rest, []);
    return t.length > 0 && (first === "?" || first === t[0]) && model(rest, t.slice(1));
  }

  test("matches what its definition says", () => {
    fc.assert(
      fc.property(pattern, text, (p, t) => {
        expect(matchesGlob(p, t)).toBe(model(Array.from(p), Array.from(t)));
      }),
      { numRuns: 5000 },
    );
  });

  test("matches itself, and everything with a star", () => {
    fc.assert(
      fc.property(text, (t) => {
        expect(matchesGlob(t, t)).toBe(true);
        expect(matchesGlob("*", t)).toBe(true);
        expect(matchesGlob(`*${t}*`, `x${t}y`)).toBe(true);
      }),
    );
  });

  test("of many stars ends soon", () => {
    expect(matchesGlob(`${"*a".repeat(1000)}b`, "a".repeat(5000))).toBe(false);
  });
});

describe("a decision", () => {
  const service = fc.constantFrom("lambda", "torpor", "s3");
  const name = fc.constantFrom("GetX", "GetY", "RunX");
  const action = fc.tuple(service, name).map((parts) => parts.join(":"));
  const actionPattern = fc.oneof(
    fc.constant("*"),
    action,
    fc.tuple(service, fc.constantFrom("*", "Get*", "*X", "Get?", "get*")).map((parts) => parts.join(":")),
  );
  const resource = fc.constantFrom("arn:aws:s3:::a/1", "arn:aws:s3:::a/2", "arn:aws:s3:::b/1", "*");
  const resourcePattern = fc.constantFrom("*", "arn:aws:s3:::a/*", "arn:aws:s3:::?/1", "arn:aws:s3:::b/1");
  const statement = fc.record({
    Effect: fc.constantFrom("Allow" as const, "Deny" as const),
    Action: fc.oneof(actionPattern, fc.array(actionPattern, { minLength: 1, maxLength: 3 })),
    Resource: fc.oneof(resourcePattern, fc.array(resourcePattern, { minLength: 1, maxLength: 3 })),
  });

  const asRegExp = (pattern: string, flags = ""): RegExp =>
    new RegExp(`^${pattern.replace(/[.:/]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`, `s${flags}`);

  test("is that of a simple model", () => {
    fc.assert(
      fc.property(fc.array(statement, { minLength: 1, maxLength: 6 }), action, resource, (statements, a, r) => {
        const about = statements.filter(
          (s) =>
            [s.Action].flat().some((p) => asRegExp(p, "i").test(a)) &&
            [s.Resource].flat().some((p) => asRegExp(p).test(r)),
        );
        const effects = new Set(about.map((s) => s.Effect));
        const expected = effects.has("Deny") ? "denied" : effects.has("Allow") ? "allowed" : "not allowed";
        expect(decide(policy(...statements), a, r)).toBe(expected);
      }),
      { numRuns: 3000 },
    );
  });

  test("never gets wider by a statement that denies, nor by the order of statements", () => {
    fc.assert(
      fc.property(fc.array(statement, { minLength: 1, maxLength: 5 }), statement, action, resource, (all, s, a, r) => {
        const before = decide(policy(...all), a, r);
        const narrower = decide(policy(...all, { ...s, Effect: "Deny" }), a, r);
        if (before !== "allowed") expect(narrower).not.toBe("allowed");
        expect(decide(policy(...all.toReversed()), a, r)).toBe(before);
        if (before === "allowed") expect(allowsSomewhere(policy(...all), a)).toBe(true);
      }),
    );
  });

  test("action names are compared without regard to case, resources with", () => {
    expect(decide(policy(allow("LAMBDA:runmicrovm", ARN)), "lambda:RunMicrovm", ARN)).toBe("allowed");
    expect(decide(policy(allow("lambda:*", ARN)), "lambda:RunMicrovm", ARN.toUpperCase())).toBe("not allowed");
  });
});

describe("a document", () => {
  test("may have one statement without a list, and labels", () => {
    const parsed = parsePolicy({ Version: "2012-10-17", Id: "p", Statement: { Sid: "one", ...allow("s3:*") } });
    expect(decide(parsed, "s3:GetObject", "arn:aws:s3:::b/k")).toBe("allowed");
  });

  const refused: readonly [what: string, document: unknown, message: RegExp][] = [
    ["no object", "text", /not a JSON object/],
    ["a list", [allow("*")], /is not accepted/],
    ["no version", { Statement: allow("*") }, /Version: expected "2012-10-17"/],
    ["an old version", { Version: "2008-10-17", Statement: allow("*") }, /Version: expected/],
    ["no statements", { Version: "2012-10-17", Statement: [] }, /Statement: expected 1 to 50/],
    ["Condition", { ...allow("*"), Condition: {} }, /Statement\.0\.Condition is not supported: .+ circumstances/],
    ["NotAction", { Effect: "Deny", NotAction: "s3:*", Resource: "*" }, /Statement\.0\.NotAction is not supported/],
    ["NotResource", { Effect: "Deny", Action: "*", NotResource: "*" }, /NotResource is not supported/],
    ["Principal", { ...allow("*"), Principal: "*" }, /Statement\.0\.Principal is not supported: .+ key/],
    ["a member that is none", { ...allow("*"), Actions: "*" }, /Statement\.0\.Actions is no member of a policy/],
    ["__proto__", JSON.parse('{"Effect":"Allow","Action":"*","Resource":"*","__proto__":{}}'), /__proto__/],
    ["a member of the document that is none", { Version: "2012-10-17", Statement: allow("*"), Foo: 1 }, /Foo is no/],
    ["another effect", { ...allow("*"), Effect: "allow" }, /Statement\.0\.Effect: expected Allow or Deny/],
    ["no effect", { Action: "*", Resource: "*" }, /Effect: expected/],
    ["no action", { Effect: "Allow", Resource: "*" }, /Action/],
    ["an empty list", { ...allow("*"), Action: [] }, /Action: expected 1 to 100/],
    ["an action without service", allow("RunMicrovm"), /Action\.0: expected \*, or a service/],
    ["a wildcard for the service", allow("l*:RunMicrovm"), /Action\.0/],
    ["a number", { ...allow("*"), Resource: 7 }, /Resource\.0: expected a text/],
    ["a resource that is no ARN", allow("s3:*", "my-bucket"), /Resource\.0: expected \*, or an ARN/],
    ["a variable", allow("s3:*", "arn:aws:s3:::b/$" + "{aws:username}/*"), /variables.+ not supported/],
  ];
  test.each(refused)("with %s is refused by name", (_what, document, message) => {
    const isStatement =
      typeof document === "object" && document !== null && !("Version" in document || "Statement" in document);
    const whole = isStatement && !Array.isArray(document) ? { Version: "2012-10-17", Statement: [document] } : document;
    expect(() => parsePolicy(whole)).toThrow(
      expect.toSatisfy((err) => err instanceof TorporError && message.test(err.message)),
    );
  });

  test("is bounded in size", () => {
    const Resource = Array.from({ length: 99 }, (_, i) => `arn:aws:s3:::${String(i).padStart(60, "b")}`);
    expect(() => policy(allow("s3:*", Resource))).toThrow(`must not be larger than ${MAX_POLICY_BYTES} bytes`);
    expect(() => policy(allow("s3:*", Array(101).fill("*")))).toThrow("expected 1 to 100 texts");
    expect(() => policy(...Array(51).fill(allow("*")))).toThrow("expected 1 to 50 statements");
  });

  test("of any other kind never does more than be refused", () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        try {
          parsePolicy({ Version: "2012-10-17", Statement: value });
        } catch (err) {
          expect(err).toBeInstanceOf(TorporError);
        }
      }),
    );
  });
});
