import { expect, test } from "vitest";
import { context } from "../testing/world.ts";
import { type BaseImage, baseImageArn, baseImageVersion, findBaseImage } from "./base-image.ts";

const CATALOGUE: readonly BaseImage[] = [
  {
    name: "old-1",
    versions: [
      { version: 0, status: "DEPRECATED" },
      { version: 1, status: "AVAILABLE" },
      { version: 2, status: "DEPRECATED" },
    ],
  },
  { name: "gone-1", versions: [{ version: 0, status: "DEPRECATED" }] },
];
const find = (name: string): [string, BaseImage] => {
  const arn = baseImageArn("us-east-1", name);
  return [arn, findBaseImage("CreateMicrovmImage", arn, context(), "us-east-1", CATALOGUE)];
};

test("the newest AVAILABLE version is taken, and a DEPRECATED one when it is asked for", () => {
  const [arn, old] = find("old-1");
  expect(baseImageVersion(arn, old, undefined)).toBe("1.0");
  expect(baseImageVersion(arn, old, "2")).toBe("2.0");
  expect(baseImageVersion(arn, old, "0.0")).toBe("0.0");
  expect(() => baseImageVersion(arn, old, "3")).toThrow(`${arn}, Version: 3`);
  expect(() => baseImageVersion(arn, old, "one")).toThrow(`${arn}, Version: one`);
});

test("a base image without an AVAILABLE version has to be asked for by number", () => {
  const [arn, gone] = find("gone-1");
  expect(() => baseImageVersion(arn, gone, null)).toThrow(`No available version found for MicroVM image ${arn}`);
  expect(baseImageVersion(arn, gone, "0")).toBe("0.0");
});
