import { expect, test } from "vitest";
import { StaleWriteError } from "./errors.ts";
import { someBuild, someImage, someVersion, temporaryStore } from "./testing.ts";

const arn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo";
const later = new Date(1_789_482_702_118);

const image = someImage({ tags: { team: "a" } });
const version = someVersion(1, {
  hooks: { port: 9000, microvmImageHooks: { ready: "ENABLED" } },
  environment: { A: "b" },
});
const build = someBuild(1, "7d0f0c52-5a1e-4a53-9c35-6a3cc1f2a001");
const built = {
  kind: "built",
  snapshot: { memoryBytes: 609_087_488, codeInstallBytes: 186_400_768, diskBytes: 25_600_000 },
  receipt: { operation: "build", startedAt: "", totalMs: 1, phases: [], bytesRead: 0, bytesWritten: 0, reused: [] },
} as const;

test("an image comes back as it was written, and its name is taken from then on", async () => {
  const { images } = await temporaryStore();
  expect(await images.insert(image, version, build)).toBe(true);
  expect(await images.insert(image, version, { ...build, id: "other" })).toBe(false);
  expect(await images.find(arn)).toEqual(image);
  expect(await images.findVersion(arn, 1)).toEqual(version);
  expect(await images.findVersion(arn, 2)).toBeUndefined();
  expect(await images.builds(arn, 1)).toEqual([build]);
  expect(await images.unfinishedBuilds()).toEqual([build]);
  expect(await images.findRunnable(arn)).toBeUndefined();
});

test("a build that succeeds makes its version ACTIVE and its image CREATED at once", async () => {
  const { images, receipts } = await temporaryStore();
  await images.insert(image, version, build);
  await images.startBuild(build, later);
  expect(await images.findVersion(arn, 1)).toMatchObject({ state: "IN_PROGRESS", status: "INACTIVE" });
  await images.settleBuild(build, built, later);
  expect(await images.builds(arn, 1)).toEqual([{ ...build, state: "SUCCESSFUL", snapshot: built.snapshot }]);
  const settled = { ...version, state: "SUCCESSFUL", status: "ACTIVE", updatedAt: later };
  expect(await images.findRunnable(arn)).toEqual(settled);
  expect(await images.findRunnable(arn, 1)).toEqual(settled);
  expect(await images.findRunnable(arn, 2)).toBeUndefined();
  expect(await images.find(arn)).toEqual({
    ...image,
    generation: 2,
    state: "CREATED",
    latestActiveVersion: 1,
    updatedAt: later,
  });
  expect(await receipts.of(build.id)).toEqual([built.receipt]);
  expect(await images.unfinishedBuilds()).toEqual([]);
});

test("a build that fails leaves the reason on build and version", async () => {
  const { images } = await temporaryStore();
  await images.insert(image, version, build);
  await images.settleBuild(build, { kind: "failed", reason: "ARCHIVE_INVALID" }, later);
  expect(await images.builds(arn, 1)).toEqual([{ ...build, state: "FAILED", stateReason: "ARCHIVE_INVALID" }]);
  expect(await images.findVersion(arn, 1)).toMatchObject({
    state: "FAILED",
    status: "INACTIVE",
    stateReason: "ARCHIVE_INVALID",
  });
  expect(await images.find(arn)).toMatchObject({ state: "CREATE_FAILED", latestFailedVersion: 1 });
  expect(await images.findRunnable(arn)).toBeUndefined();
});

test("a build ends once and starts once", async () => {
  const { images } = await temporaryStore();
  await images.insert(image, version, build);
  await images.startBuild(build, later);
  await expect(images.startBuild(build, later)).rejects.toThrow(StaleWriteError);
  await images.settleBuild(build, { kind: "failed", reason: "first" }, later);
  await expect(images.settleBuild(build, built, later)).rejects.toThrow(StaleWriteError);
  expect(await images.findVersion(arn, 1)).toMatchObject({ state: "FAILED", stateReason: "first" });
});
