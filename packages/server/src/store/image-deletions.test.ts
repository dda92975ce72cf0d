import { describe, expect, test } from "vitest";
import type { Store } from "./store.ts";
import { someBuild, someCheckpoint, someImage, someMicrovm, someVersion, temporaryStore } from "./testing.ts";

const arn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo";
const at = new Date(1_789_482_600_512);
const token = { accountId: "000000000000", operation: "CreateMicrovmImage", token: "t" };
const recorded = { requestDigest: "d", response: "{}" };

const image = someImage();
const version = (number: number) => someVersion(number);
const build = (number: number, id = `build-${number}`) => someBuild(number, id);
const built = {
  kind: "built",
  snapshot: { memoryBytes: 1, codeInstallBytes: 1, diskBytes: 1 },
  receipt: { operation: "build", startedAt: "", totalMs: 1, phases: [], bytesRead: 0, bytesWritten: 0, reused: [] },
} as const;

/** An image with so many versions that are built. */
async function withVersions(count: number): Promise<Store> {
  const store = await temporaryStore();
  await store.images.insert(image, version(1), build(1));
  await store.images.settleBuild(build(1), built, at);
  for (let number = 2; number <= count; number++) {
    await store.transaction(async (write) => {
      expect((await write.images.beginUpdate(arn, at))?.lastVersion).toBe(number);
      await write.images.insertVersion(version(number), build(number));
    });
    await store.images.settleBuild(build(number), built, at);
  }
  return store;
}
const needs = async (store: Store): Promise<object> => Object.fromEntries(await store.templates.needs());

test("an update begins once, and not while something is done to the image", async () => {
  const store = await withVersions(1);
  const first = await store.images.beginUpdate(arn, at);
  expect(first).toMatchObject({ state: "UPDATING", lastVersion: 2, latestActiveVersion: 1 });
  expect(await store.images.beginUpdate(arn, at)).toBeUndefined();
  expect(await store.images.beginUpdate(`${arn}x`, at)).toBeUndefined();
});

test("an image that goes takes everything of it along, its tokens and receipts included", async () => {
  const store = await withVersions(2);
  await store.idempotencyTokens.insert(token, recorded, at, arn);
  await store.idempotencyTokens.insert({ ...token, token: "other" }, recorded, at, null);
  expect(await store.imageDeletions.unfinished()).toEqual([]);
  expect(await store.imageDeletions.beginImage(arn, at)).toEqual({ kind: "deleting" });
  expect(await store.imageDeletions.beginImage(arn, at)).toEqual({ kind: "deleting" });
  const deletion = { imageArn: arn, version: undefined };
  expect(await store.imageDeletions.unfinished()).toEqual([deletion]);
  expect((await store.imageDeletions.builds(deletion)).sort()).toEqual(["build-1", "build-2"]);
  expect(await needs(store)).toEqual({});
  await store.imageDeletions.finish(deletion, at);
  await store.imageDeletions.finish(deletion, at);
  expect(await store.images.find(arn)).toBeUndefined();
  expect(await store.images.versions(arn, undefined, 10)).toEqual([]);
  expect(await store.images.builds(arn, 1)).toEqual([]);
  expect(await store.receipts.of("build-1")).toEqual([]);
  expect(await store.idempotencyTokens.find(token)).toBeUndefined();
  expect(await store.idempotencyTokens.find({ ...token, token: "other" })).toEqual(recorded);
  expect(await store.imageDeletions.beginImage(arn, at)).toEqual({ kind: "deleted" });
  expect(await store.images.insert(image, version(1), build(1, "build-3"))).toBe(true);
  expect(await store.imageDeletions.beginImage(arn, at)).toEqual({ kind: "busy", state: "CREATING" });
  expect(await store.imageDeletions.beginImage(`${arn}x`, at)).toEqual({ kind: "unknown" });
});

test("a version that goes leaves the others, and the image UPDATED", async () => {
  const store = await withVersions(3);
  expect(await store.imageDeletions.beginVersion(arn, 3, at)).toEqual({ kind: "deleting" });
  expect(await store.images.find(arn)).toMatchObject({ state: "UPDATING", latestActiveVersion: 2 });
  expect(await store.imageDeletions.beginVersion(arn, 2, at)).toEqual({ kind: "busy", state: "UPDATING" });
  expect(await needs(store)).toEqual({ "build-1": "launches", "build-2": "launches" });
  const deletion = { imageArn: arn, version: 3 };
  expect(await store.imageDeletions.unfinished()).toEqual([deletion]);
  await store.imageDeletions.finish(deletion, at);
  expect(await store.images.find(arn)).toMatchObject({ state: "UPDATED", latestActiveVersion: 2, lastVersion: 3 });
  // One that comes late does not end what was begun since.
  await store.images.beginUpdate(arn, at);
  await store.imageDeletions.finish(deletion, at);
  expect((await store.images.find(arn))?.state).toBe("UPDATING");
});

test.each([
  [0, "unknown"],
  [1, "last version"],
  [2, "deleted"],
  [3, "unknown"],
])("of two versions the second was deleted: deleting %i is answered with %s", async (number, kind) => {
  const store = await withVersions(2);
  await store.imageDeletions.beginVersion(arn, 2, at);
  await store.imageDeletions.finish({ imageArn: arn, version: 2 }, at);
  expect(await store.imageDeletions.beginVersion(arn, number, at)).toEqual({ kind });
});

test("microvms that live keep their version and image; those that have ended do not", async () => {
  const store = await withVersions(2);
  const vm = someMicrovm({ state: "RUNNING", reason: null }, { imageArn: arn, imageVersion: 2 });
  await store.microvms.insert(vm);
  expect(await store.imageDeletions.beginVersion(arn, 2, at)).toEqual({ kind: "in use" });
  expect(await store.imageDeletions.beginImage(arn, at)).toEqual({ kind: "in use" });
  expect(await store.images.find(arn)).toMatchObject({ state: "UPDATED" });
  expect(await store.images.hold(arn, 2)).toBe(true);
  const ending = await store.microvms.update({
    next: { ...vm, state: "TERMINATING", reason: "", hook: false },
  });
  expect(await store.imageDeletions.beginVersion(arn, 2, at)).toEqual({ kind: "in use" });
  await store.microvms.update({ next: { ...ending, state: "TERMINATED", reason: "", terminatedAt: at } });
  expect(await store.imageDeletions.beginVersion(arn, 2, at)).toEqual({ kind: "deleting" });
  expect(await store.images.hold(arn, 2)).toBe(false);
});

describe("who needs a template", () => {
  test("a version that is built or being built, for launches; one that is switched off, for what it has", async () => {
    const store = await withVersions(2);
    await store.images.setStatus(arn, 1, "INACTIVE", at);
    await store.images.beginUpdate(arn, at);
    await store.images.insertVersion(version(3), build(3));
    expect(await needs(store)).toEqual({ "build-1": "restores", "build-2": "launches", "build-3": "launches" });
    await store.images.retryBuild(build(3), "interrupted", build(3, "build-3-again"), at);
    expect(await needs(store)).toMatchObject({ "build-3-again": "launches" });
    await store.images.settleBuild(build(3, "build-3-again"), { kind: "failed", reason: "no" }, at);
    expect(await needs(store)).toEqual({ "build-1": "restores", "build-2": "launches" });
    expect(await store.templates.needs("build-1")).toEqual(new Map([["build-1", "restores"]]));
    expect(await store.templates.needs("build-3")).toEqual(new Map());
  });

  test("microvms and checkpoints, as long as they live", async () => {
    const store = await temporaryStore();
    const ended = { state: "TERMINATED", reason: "", terminatedAt: at } as const;
    await store.microvms.insert(someMicrovm({ state: "RUNNING", reason: null }, { templateId: "of a microvm" }));
    await store.microvms.insert(someMicrovm(ended, { templateId: "of an ended microvm" }));
    const available = { state: "AVAILABLE", memoryBytes: 1, diskBytes: 1 } as const;
    await store.checkpoints.insert(someCheckpoint({ state: "CREATING" }, { templateId: "of a new checkpoint" }));
    await store.checkpoints.insert(someCheckpoint(available, { templateId: "of a checkpoint" }));
    await store.checkpoints.insert(
      someCheckpoint({ state: "FAILED", reason: "" }, { templateId: "of a failed checkpoint" }),
    );
    await store.checkpoints.insert(someCheckpoint({ state: "DELETING" }, { templateId: "of one that goes" }));
    expect(await needs(store)).toEqual({
      "of a microvm": "restores",
      "of a new checkpoint": "restores",
      "of a checkpoint": "restores",
    });
  });
});
