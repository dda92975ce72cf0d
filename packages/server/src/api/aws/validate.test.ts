import { OPERATIONS, type OperationName } from "@torpor/protocol";
import { describe, expect, test } from "vitest";
import { parseJson } from "../json.ts";
import { bindInput } from "./bind.ts";
import { memberOrder } from "./member-order.ts";
import { validateInput } from "./validate.ts";

const good: { readonly [N in OperationName]?: Record<string, unknown> } = {
  CreateMicrovmImage: {
    name: "demo",
    baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    buildRoleArn: "arn:aws:iam::111122223333:role/build",
    codeArtifact: { uri: "s3://bucket/app.zip" },
  },
  RunMicrovm: { imageIdentifier: "arn" },
};

function messageOf(name: OperationName, body: Record<string, unknown>): string {
  const { input } = OPERATIONS[name];
  const json = parseJson(Buffer.from(JSON.stringify({ ...good[name], ...body })));
  const labels = { microvmIdentifier: "microvm-x" };
  try {
    validateInput(input, bindInput(input, { labels, query: new Map(), body: json }));
  } catch (err) {
    return err instanceof Error ? err.message : String(err);
  }
  return "valid";
}

const one = "1 validation error detected: ";
const port = "Value '0' at 'allowedPorts.2.member.range.startPort' failed to satisfy constraint: ";

describe("violations are told in the service's words", () => {
  test.each<[string, OperationName, Record<string, unknown>, string]>([
    ["a right input", "CreateMicrovmImage", {}, "valid"],
    [
      "a pattern",
      "CreateMicrovmImage",
      { name: "bad name!" },
      `${one}Value 'bad name!' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+`,
    ],
    [
      "several absent members",
      "CreateMicrovmImage",
      { baseImageArn: null, codeArtifact: null, buildRoleArn: null },
      "3 validation errors detected: " +
        "Value null at 'baseImageArn' failed to satisfy constraint: Member must not be null; " +
        "Value null at 'codeArtifact' failed to satisfy constraint: Member must not be null; " +
        "Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null",
    ],
    [
      "a sensitive member",
      "RunMicrovm",
      { runHookPayload: "s".repeat(4097) },
      `${one}Value at 'runHookPayload' failed to satisfy constraint: Member must have length less than or equal to 4096`,
    ],
    [
      "two constraints of one member",
      "CreateMicrovmImage",
      { name: "" },
      "2 validation errors detected: " +
        "Value '' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
        "Value '' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+",
    ],
    [
      "a number",
      "RunMicrovm",
      { maximumDurationInSeconds: 28801 },
      `${one}Value '28801' at 'maximumDurationInSeconds' failed to satisfy constraint: Member must have value less than or equal to 28800`,
    ],
    [
      "a member of a structure",
      "RunMicrovm",
      { idlePolicy: { maxIdleDurationSeconds: 59, autoResumeEnabled: true } },
      "2 validation errors detected: " +
        "Value '59' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60; " +
        "Value null at 'idlePolicy.suspendedDurationSeconds' failed to satisfy constraint: Member must not be null",
    ],
    [
      "a negative duration",
      "RunMicrovm",
      { idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: -1, autoResumeEnabled: true } },
      `${one}Value '-1' at 'idlePolicy.suspendedDurationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 0`,
    ],
    [
      "an enumeration",
      "CreateMicrovmImage",
      { cpuConfigurations: [{ architecture: "MIPS" }] },
      `${one}Value 'MIPS' at 'cpuConfigurations.1.member.architecture' failed to satisfy constraint: Member must satisfy enum value set: [ARM_64, X86_64]`,
    ],
    [
      "a structure in a list",
      "CreateMicrovmAuthToken",
      { expirationInMinutes: 5, allowedPorts: [{ port: 1 }, { range: { startPort: 0, endPort: 9 } }] },
      `${one}${port}Member must have value greater than or equal to 1`,
    ],
    [
      "a list that is too long",
      "CreateMicrovmImage",
      { egressNetworkConnectors: ["a", "b"] },
      `${one}Value '[a, b]' at 'egressNetworkConnectors' failed to satisfy constraint: Member must have length less than or equal to 1`,
    ],
    [
      "a text in a list",
      "RunMicrovm",
      { ingressNetworkConnectors: ["ok", ""] },
      `${one}Value '[ok, ]' at 'ingressNetworkConnectors' failed to satisfy constraint: Member must satisfy constraint: ` +
        "[Member must have length less than or equal to 2048, Member must have length greater than or equal to 1]",
    ],
    [
      "an enumeration in a list",
      "CreateMicrovmImage",
      { additionalOsCapabilities: ["SOME"] },
      `${one}Value '[SOME]' at 'additionalOsCapabilities' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [ALL]]`,
    ],
    [
      "keys of a map, its values hidden",
      "CreateMicrovmImage",
      { environmentVariables: { "a b": "secret" } },
      `${one}Value at 'environmentVariables' failed to satisfy constraint: Map keys must satisfy constraint: ` +
        "[Member must have length less than or equal to 256, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [^\\s]+]",
    ],
    [
      "values of a map",
      "CreateMicrovmImage",
      { tags: { team: "a\tb" } },
      `${one}Value '{team=a\tb}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: ` +
        "[Member must have length less than or equal to 256, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)]",
    ],
    [
      "a union without a member",
      "CreateMicrovmImage",
      { codeArtifact: {} },
      `${one}Value '{}' at 'codeArtifact' failed to satisfy constraint: Member must have exactly one of the members: [uri]`,
    ],
    [
      "a union with two",
      "CreateMicrovmAuthToken",
      { expirationInMinutes: 5, allowedPorts: [{ port: 80, allPorts: {} }] },
      `${one}Value '{port=80, allPorts={}}' at 'allowedPorts.1.member' failed to satisfy constraint: Member must have exactly one of the members: [port, range, allPorts]`,
    ],
    [
      "nothing but nulls in a list",
      "CreateMicrovmAuthToken",
      { expirationInMinutes: 5, allowedPorts: [null] },
      `${one}Value '[]' at 'allowedPorts' failed to satisfy constraint: Member must have length greater than or equal to 1`,
    ],
  ])("%s", (_, name, body, message) => {
    expect(messageOf(name, body)).toBe(message);
  });

  test("at most ten of them, and long values shortened", () => {
    const allowedPorts = Array.from({ length: 1000 }, () => ({ port: 0 }));
    expect(messageOf("CreateMicrovmAuthToken", { expirationInMinutes: 5, allowedPorts })).toMatch(
      /^10 validation errors/,
    );
    expect(messageOf("CreateMicrovmImage", { name: "x".repeat(500_000) }).length).toBeLessThan(2000);
  });

  test("lengths are counted in characters", () => {
    expect(messageOf("RunMicrovm", { runHookPayload: "😀".repeat(4096) })).toBe("valid");
  });
});

test("members are reported in the order in which AWS was seen to report them", () => {
  const names = ["roleARN", "catalogId", "databaseName", "tableName", "region", "versionId"];
  expect(memberOrder(names)).toEqual(["versionId", "catalogId", "databaseName", "roleARN", "region", "tableName"]);
});
