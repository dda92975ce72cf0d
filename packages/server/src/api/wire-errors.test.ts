import { OPERATIONS, type OperationName } from "@torpor/protocol";
import { describe, expect, test } from "vitest";
import { type ErrorKind, TorporError } from "../lib/errors.ts";
import { RequestError } from "./request-error.ts";
import { SignatureError } from "./sigv4/signature-error.ts";
import { toWireError } from "./wire-errors.ts";

const KINDS: readonly ErrorKind[] = [
  "invalid_input",
  "invalid_parameter",
  "not_found",
  "conflict",
  "denied",
  "quota",
  "throttled",
  "capacity",
  "internal",
];
const names = Object.keys(OPERATIONS).filter((name): name is OperationName => Object.hasOwn(OPERATIONS, name));

/** Lambda Core's models have few names: whatever else is thrown there is no error of theirs. */
const CORE_KINDS: readonly ErrorKind[] = ["invalid_input", "invalid_parameter", "throttled", "capacity", "internal"];
const kindsOf = (name: OperationName): readonly ErrorKind[] => (/NetworkConnector/.test(name) ? CORE_KINDS : KINDS);

describe.each(names)("%s", (name) => {
  test.each(kindsOf(name))("answers %s with an error of its model", (kind) => {
    const { errors } = OPERATIONS[name];
    expect(errors).toContain(toWireError(new TorporError(kind, "m"), errors).type);
  });
});

test("operations of the older family answer in its words", () => {
  const declared = ["InvalidParameterValueException", "ResourceConflictException", "ServiceException"];
  const types = (["invalid_input", "conflict", "internal"] as const).map(
    (kind) => toWireError(new TorporError(kind, "m"), declared).type,
  );
  expect(types).toEqual(declared);
});

test("what is missing for the moment is 503, with the time to come back", () => {
  expect(toWireError(new TorporError("unavailable", "m", { retryAfterSeconds: 3 }), [])).toEqual({
    status: 503,
    type: "ServiceUnavailableException",
    body: { message: "m" },
    retryAfterSeconds: 3,
    unexpected: false,
  });
});

test("members that are null in every recorded answer are there", () => {
  expect(toWireError(new TorporError("quota", "m"), ["ServiceQuotaExceededException"])).toMatchObject({
    status: 402,
    body: { message: "m", resourceId: null, resourceType: null, quotaCode: null, serviceCode: null },
  });
});

test("signatures and requests that make no sense have types of their own", () => {
  expect(toWireError(new SignatureError("missing", "m"))).toMatchObject({ status: 403, body: { message: "m" } });
  expect(toWireError(new RequestError("unreadable", "m"))).toMatchObject({ status: 400, body: { Message: "m" } });
});

test("anything that is not an error of ours is hidden", () => {
  for (const thrown of [new Error("secret"), "secret", undefined, null, { message: "secret" }]) {
    const error = toWireError(thrown);
    expect(error).toMatchObject({ status: 500, type: "InternalServerException", unexpected: true });
    expect(JSON.stringify(error)).not.toContain("secret");
  }
});

test("operations that declare older and newer names mean the older ones, but for constraints", () => {
  const { errors } = OPERATIONS.TagResource;
  const types = (["invalid_input", "invalid_parameter", "conflict", "throttled", "internal"] as const).map(
    (kind) => toWireError(new TorporError(kind, "m"), errors).type,
  );
  expect(types).toEqual([
    "ValidationException",
    "InvalidParameterValueException",
    "ResourceConflictException",
    "TooManyRequestsException",
    "ServiceException",
  ]);
});

test("Lambda Core spells some messages with a capital, and leaves out what is null", () => {
  const { errors } = OPERATIONS.UpdateNetworkConnector;
  const bodies = (["not_found", "conflict", "denied", "internal"] as const).map(
    (kind) => toWireError(new TorporError(kind, "m"), errors).body,
  );
  expect(bodies).toEqual([{ Message: "m" }, { message: "m" }, { Message: "m" }, { Message: expect.any(String) }]);
});

test("whoever asks too fast, or when we fail, is told when to come back", () => {
  const { errors } = OPERATIONS.RunMicrovm;
  expect(toWireError(new TorporError("throttled", "m"), errors).retryAfterSeconds).toBe(1);
  expect(toWireError(new TorporError("throttled", "m", { retryAfterSeconds: 7 })).retryAfterSeconds).toBe(7);
  expect(toWireError(new Error("m"), errors).retryAfterSeconds).toBe(1);
  expect(toWireError(new TorporError("invalid_input", "m"), errors).retryAfterSeconds).toBeUndefined();
});
