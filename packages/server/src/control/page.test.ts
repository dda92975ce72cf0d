import fc from "fast-check";
import { expect, test } from "vitest";
import { TorporError } from "../lib/errors.ts";
import { pageToken, parsePageToken } from "./page.ts";

const scope = ["ListMicrovms", "000000000000", undefined, "1.0"];

test("a token leads back to its place", () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), fc.string(), (at, id) => {
      expect(parsePageToken(scope, pageToken(scope, [at, id]))).toEqual([at, id]);
    }),
  );
});

test("no other text is taken, and none breaks anything", () => {
  const refused = (token: string): void => {
    expect(() => parsePageToken(scope, token)).toThrow(TorporError);
  };
  fc.assert(fc.property(fc.string(), refused));
  fc.assert(fc.property(fc.json(), (json) => refused(Buffer.from(json).toString("base64url"))));
});

test("a token of another list, account or filter is refused", () => {
  const token = pageToken(scope, [1, "id"]);
  for (const other of [
    ["ListOther", "000000000000", undefined, "1.0"],
    ["ListMicrovms", "999999999999", undefined, "1.0"],
    ["ListMicrovms", "000000000000", "1.0", undefined],
    ["ListMicrovms", "000000000000", undefined],
  ])
    expect(() => parsePageToken(other, token)).toThrow("nextToken is not valid");
});
