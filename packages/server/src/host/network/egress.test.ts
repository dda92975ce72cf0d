import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type EgressRule, egressPolicy, nameMatcher, nameService, nameSets } from "./egress.ts";

const SLOTS = "100.64.0.0/16";
const rule = (more: Partial<EgressRule> = {}): EgressRule => ({
  protocol: "tcp",
  ports: [],
  cidrs: ["0.0.0.0/0"],
  ...more,
});

describe("patterns of names", () => {
  test.each([
    ["example.com", "example.com", true],
    ["example.com", "a.example.com", false],
    ["*.example.com", "a.example.com", true],
    ["*.example.com", "a.b.example.com", true],
    ["*.example.com", "example.com", false],
    ["*.example.com", "badexample.com", false],
    ["*.example.com", ".example.com", false],
    ["example.com", "example.com.evil.net", false],
    ["*", "anything.at.all", true],
  ])("%s and %s: %s", (pattern, name, fits) => {
    expect(nameMatcher([pattern])(name)).toBe(fits);
  });
});

describe("who resolves a guest's names", () => {
  test.each([
    ["nobody without a route", [{ routes: [], rules: [rule()] }], "none"],
    ["nobody without a rule", [{ routes: ["public"], rules: [] }], "none"],
    ["the host's own without names", [{ routes: ["public"], rules: [rule()] }], "direct"],
    ["ours with names", [{ routes: ["public"], rules: [rule({ names: ["a.b"] })] }], "forwarder"],
  ] as const)("%s", (_, grants, kind) => {
    expect(nameService({ grants }).kind).toBe(kind);
  });

  test("a list of names is the list of all rules of its grant, and no other grant's", () => {
    const listed = { routes: ["public"], rules: [rule({ names: ["a.b"] }), rule({ cidrs: ["1.0.0.0/8"] })] };
    const strict = nameService({ grants: [listed] });
    expect(strict.kind === "forwarder" && [strict.allows("a.b"), strict.allows("c.d"), strict.unlisted]).toEqual([
      true,
      false,
      false,
    ]);
    const both = nameService({ grants: [listed, { routes: ["public"], rules: [rule()] }] });
    expect(both.kind === "forwarder" && [both.allows("c.d"), both.unlisted]).toEqual([true, true]);
  });
});

test("no address that is closed gets into a set, whatever routes and ranges say", () => {
  const cidr = fc.constantFrom(
    "0.0.0.0/0",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "10.0.0.0/8",
    "224.0.0.0/4",
    "5.0.0.0/8",
  );
  const closed = fc.constantFrom(
    "127.0.0.1",
    "169.254.169.254",
    "100.64.3.7",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "::1",
  );
  fc.assert(
    fc.property(fc.array(cidr), fc.array(cidr, { minLength: 1 }), closed, (routes, cidrs, address) => {
      const [set] = nameSets(
        { grants: [{ routes: ["public", ...routes], rules: [rule({ names: ["a.b"], cidrs })] }] },
        SLOTS,
      );
      expect(set!.admits(address)).toBe(false);
    }),
  );
});

test.each([
  ["public", ["public"], "5.6.7.8", true],
  ["private, on a public route", ["public"], "10.1.1.1", false],
  ["private, on its route", ["10.1.0.0/16"], "10.1.1.1", true],
  ["private, on another's", ["10.2.0.0/16"], "10.1.1.1", false],
])("an address that is %s", (_, routes, address, admitted) => {
  const [set] = nameSets({ grants: [{ routes, rules: [rule({ names: ["a.b"] })] }] }, SLOTS);
  expect(set!.admits(address)).toBe(admitted);
});

test("a policy is read as it was written, and nothing else is taken for one", () => {
  const policy = { grants: [{ routes: ["public"], rules: [rule({ ports: [[1, 2]], names: ["*.a.b"] })] }] };
  expect(egressPolicy.parse(JSON.parse(JSON.stringify(policy)))).toEqual(policy);
  for (const bad of ["10.0.0.1/8", "1.2.3.4; drop", "", "::/0"])
    expect(egressPolicy.safeParse({ grants: [{ routes: [bad], rules: [] }] }).success).toBe(false);
  for (const names of [["a b"], ["a.*"], ["*a.b"], ["A.b"], ["a..b"], [""]])
    expect(egressPolicy.safeParse({ grants: [{ routes: [], rules: [rule({ names })] }] }).success).toBe(false);
});
