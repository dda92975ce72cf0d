import { describe, expect, test } from "vitest";
import { OPERATIONS } from "../packages/protocol/src/operations.ts";
import { enumeration, integer, operation, optional, path, required, string } from "../packages/protocol/src/shape.ts";
import { statusOf } from "../packages/server/src/api/wire-errors.ts";
import { type BotocoreModel, ofBotocore } from "./botocore.ts";
import { compare } from "./compare.ts";
import { allDigests, botocoreOracles, judge, passes, sdkOracle } from "./contract.ts";
import { ofTable } from "./table.ts";

/** A service of one operation, as AWS would have it. */
const MODEL: BotocoreModel = {
  metadata: { serviceId: "Dogs" },
  operations: {
    CallDog: {
      http: { method: "POST", requestUri: "/dogs/{name}/call", responseCode: 202 },
      input: { shape: "CallDogRequest" },
      errors: [{ shape: "ResourceNotFoundException" }],
    },
  },
  shapes: {
    CallDogRequest: {
      type: "structure",
      required: ["name", "volume"],
      members: {
        name: { shape: "Name", location: "uri", locationName: "name" },
        volume: { shape: "Volume" },
        tone: { shape: "Tone" },
      },
    },
    Name: { type: "string", min: 1, max: 8, pattern: "[a-z]+" },
    Volume: { type: "integer", min: 1, max: 10 },
    Tone: { type: "string", enum: ["KIND", "STERN"] },
    ResourceNotFoundException: { type: "structure", members: {}, error: { httpStatusCode: 404 } },
  },
};
const dogs = ofBotocore(MODEL, "Dogs");
const volume = integer({ min: 1, max: 10 });
const input = {
  name: path(string({ min: 1, max: 8, pattern: "[a-z]+" })),
  volume: required(volume),
  tone: optional(enumeration(["STERN", "KIND"])),
};
const call = {
  method: "POST",
  uri: "/dogs/{name}/call",
  status: 202,
  permission: { on: { kind: "any" } },
  output: {},
} as const;
const errors = ["ResourceNotFoundException"];
const findings = (table: Parameters<typeof ofTable>[0], declared: Parameters<typeof compare>[2] = []) =>
  compare(dogs, ofTable(table, statusOf), declared).findings;

describe("a comparison", () => {
  test("of what is the same finds nothing", () => {
    const CallDog = operation({ ...call, input, errors });
    expect(compare(dogs, ofTable({ CallDog }, statusOf), [])).toMatchObject({
      operations: { known: 1, covered: 1 },
      members: { known: 3, covered: 3 },
      findings: [],
    });
  });

  test.each([
    ["a bound", { ...input, volume: required(integer({ min: 1 })) }, "input.volume", "max", "10", "none"],
    ["a type", { ...input, volume: required(string()) }, "input.volume", "type", "integer", "string"],
    ["what must be there", { ...input, volume: optional(volume) }, "input.volume", "required", "true", "false"],
    [
      "an enumeration",
      { ...input, tone: optional(enumeration(["KIND"])) },
      "input.tone",
      "enum",
      "KIND, STERN",
      "KIND",
    ],
    [
      "a pattern",
      { ...input, name: path(string({ min: 1, max: 8, pattern: "[a-z]*" })) },
      "input.name",
      "pattern",
      "[a-z]+",
      "[a-z]*",
    ],
    ["a place", { ...input, name: required(input.name.shape) }, "input.name", "in", "path name", "body"],
    ["a member too many", { ...input, whistle: optional(string()) }, "input.whistle", "member", "absent", "present"],
    ["a member too few", { name: input.name, tone: input.tone }, "input.volume", "member", "present", "absent"],
  ])("finds %s", (_, given, at, fact, oracle, ours) => {
    const CallDog = operation({ ...call, input: given, errors });
    expect(findings({ CallDog })).toContainEqual({ at: `CallDog ${at}`, fact, oracle, ours });
  });

  test("finds methods, statuses and errors, on both sides", () => {
    const CallDog = operation({ ...call, method: "PUT", status: 200, input, errors: ["ValidationException"] });
    expect(findings({ CallDog })).toEqual([
      { at: "CallDog", fact: "error ValidationException", oracle: "absent", ours: "400" },
      { at: "CallDog", fact: "method", oracle: "POST", ours: "PUT" },
      { at: "CallDog", fact: "status", oracle: "202", ours: "200" },
      { at: "CallDog", fact: "error ResourceNotFoundException", oracle: "404", ours: "absent" },
    ]);
  });

  test("finds an operation that is missing, and counts its members as not covered", () => {
    const nothing = compare(dogs, ofTable({}, statusOf), []);
    expect(nothing.findings).toEqual([{ at: "CallDog", fact: "operation", oracle: "present", ours: "absent" }]);
    expect(nothing.members).toEqual({ known: 3, covered: 0 });
  });

  test("lets through what is declared, and only that", () => {
    const difference = { at: "tone", fact: "enum", aws: "KIND, STERN", ours: "KIND", reason: "no need to shout" };
    const only = (...values: string[]) => {
      const CallDog = operation({ ...call, input: { ...input, tone: optional(enumeration(values)) }, errors });
      return findings({ CallDog }, [difference]);
    };
    expect(only("KIND")).toEqual([]);
    expect(only("STERN")).toHaveLength(1);
  });
});

describe("the verdict", () => {
  const ours = ofTable(OPERATIONS, statusOf);

  test("is that the operations which we have are AWS's, to the last constraint", () => {
    const have = ({ at }: { readonly at: string }): boolean => ours.operations.has(at.split(" ")[0]!);
    const { comparisons, unknown, stale } = judge();
    expect(comparisons.flatMap(({ findings }) => findings).filter(have)).toEqual([]);
    expect({ unknown, stale }).toEqual({ unknown: [], stale: [] });
  });

  test("is hard on an operation of our own, and on a difference that is none", () => {
    const OwnIdea = operation({ ...call, input, errors });
    const difference = { at: "architecture", fact: "max", aws: "1", ours: "2", reason: "there is none" };
    const table = ofTable({ ...OPERATIONS, OwnIdea }, statusOf);
    const verdict = judge(table, undefined, [difference]);
    expect(verdict).toMatchObject({ unknown: ["OwnIdea"], stale: [difference] });
    expect(passes(verdict)).toBe(false);
  });
});

test("the oracles agree with each other", () => {
  const [microvms] = botocoreOracles();
  const { operations, members, findings } = compare(sdkOracle(), microvms!, []);
  expect(findings).toEqual([]);
  expect([operations.known, members.known]).toEqual([24, 531]);
});

test("the digests have every operation of microvms and of connectors, and no word of documentation", () => {
  const digests = allDigests();
  expect(digests.map(({ operations }) => Object.keys(operations).length)).toEqual([24, 5]);
  expect(JSON.stringify(digests)).not.toContain("<p>");
});
