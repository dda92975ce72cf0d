import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { BlobError } from "../../blobs/blob-store.ts";
import { BuildError, HostError } from "../../host/host-client.ts";
import { context, imageArn, World } from "../testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await World.create();
});

const arn = imageArn("demo");
const version = { imageIdentifier: arn, imageVersion: "1.0" };

async function outcome(): Promise<{ image: string; version: string; status: string; reason: unknown; build: string }> {
  const image = await world.operations.GetMicrovmImage({ imageIdentifier: arn }, context());
  const { state, status, stateReason } = await world.operations.GetMicrovmImageVersion(version, context());
  const builds = await world.operations.ListMicrovmImageBuilds(version, context());
  const newest = builds.items.at(-1);
  expect(newest?.stateReason).toBe(stateReason);
  return { image: image.state, version: state, status, reason: stateReason, build: newest?.buildState ?? "" };
}

async function text(follow = false): Promise<string> {
  let all = "";
  const log = await world.control.extensions.buildLog(context(), arn, "1.0", follow, new AbortController().signal);
  for await (const part of log) all += part;
  return all;
}

test("the host is asked for what the image says, with the injected environment on top", async () => {
  await world.image("demo", {
    resources: [{ minimumMemoryInMiB: 512 }],
    additionalOsCapabilities: ["ALL"],
    environmentVariables: { NAME: "value" },
    hooks: { port: 9000, microvmImageHooks: { ready: "ENABLED", validate: "ENABLED", validateTimeoutInSeconds: 600 } },
  });
  expect(world.machine.builds).toEqual([
    {
      templateId: [...world.machine.templates][0],
      accountId: "000000000000",
      artifactPath: expect.stringContaining(world.dataDir),
      memoryMib: 512,
      environment: {
        NAME: "value",
        AWS_REGION: "us-east-1",
        AWS_LAMBDA_MICROVM_IMAGE_NAME: "demo",
        AWS_LAMBDA_MICROVM_IMAGE_ARN: arn,
        AWS_LAMBDA_MICROVM_IMAGE_VERSION: "1.0",
      },
      capabilities: "all",
      ready: { port: 9000, timeoutMs: 30_000 },
      validate: { port: 9000, timeoutMs: 600_000 },
    },
  ]);
  expect(await outcome()).toEqual({
    image: "CREATED",
    version: "SUCCESSFUL",
    status: "ACTIVE",
    reason: null,
    build: "SUCCESSFUL",
  });
  expect(await readdir(join(world.dataDir, "incoming"))).toEqual([]);
});

test("a build can be watched: states on the way, log as it is written, receipt at the end", async () => {
  const held = world.hold("buildTemplate:half");
  await world.operations.CreateMicrovmImage(
    {
      name: "demo",
      baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
      buildRoleArn: "arn:aws:iam::000000000000:role/build",
      codeArtifact: { uri: "s3://bucket/app.zip" },
    },
    context(),
  );
  await held.reached;
  expect(await outcome()).toEqual({
    image: "CREATING",
    version: "IN_PROGRESS",
    status: "INACTIVE",
    reason: null,
    build: "IN_PROGRESS",
  });
  const soFar = await text();
  expect(soFar).toContain("STEP 1/1: FROM scratch\n");
  expect(await world.control.extensions.buildReceipt(context(), arn, "1.0")).toBeUndefined();
  const following = text(true);
  held.release();
  expect(await following).toBe(`${soFar}done\n`);
  await world.settled();
  expect(await world.control.extensions.buildReceipt(context(), arn, "1.0")).toMatchObject({ operation: "build" });
  await expect(world.control.extensions.buildReceipt(context("999999999999"), arn, "1.0")).rejects.toMatchObject({
    kind: "denied",
  });
});

describe("a build that fails", () => {
  test.each<[string, Error, string]>([
    [
      "a documented code",
      new BuildError("ARCHIVE_DOCKERFILE_NOT_FOUND", "no Dockerfile"),
      "ARCHIVE_DOCKERFILE_NOT_FOUND: no Dockerfile",
    ],
    [
      "the recorded sentence and the step",
      new BuildError("CONTAINER_BUILD_FAILED", "STEP 3/4: RUN false: exit status 1"),
      "The container image build failed. STEP 3/4: RUN false: exit status 1",
    ],
    [
      "the sentence once",
      new BuildError("CONTAINER_BUILD_FAILED", "The container image build failed."),
      "The container image build failed.",
    ],
    [
      "a hook's sentence",
      new BuildError(null, "Validate hook invocation timed out after PT10M"),
      "Validate hook invocation timed out after PT10M",
    ],
    ["a full disk", new HostError("no_space", "no space left"), "DISK_STORAGE_FULL"],
    ["our own fault, not told", new Error("/secret/path is undefined"), "INTERNAL_PLATFORM_ERROR"],
  ])("gives as reason %s", async (_, error, reason) => {
    world.machine.failNext("buildTemplate", error);
    await world.image("demo");
    expect(await outcome()).toEqual({
      image: "CREATE_FAILED",
      version: "FAILED",
      status: "INACTIVE",
      reason,
      build: "FAILED",
    });
    expect(world.machine.templates.size).toBe(0);
    const log = await text();
    expect(log).toMatch(/error: .+\n$/);
    expect(log).not.toContain("/secret/path");
    await expect(world.operations.RunMicrovm({ imageIdentifier: arn }, context())).rejects.toThrow(
      "No active version found",
    );
  });

  test.each(["S3_ACCESS_DENIED", "S3_NO_SUCH_BUCKET", "S3_NO_SUCH_KEY", "S3_INVALID_OBJECT"] as const)(
    "names %s when the artifact is not to be had",
    async (code) => {
      world.objects.set("bucket/app.zip", () => {
        throw new BlobError(code, "not to be had");
      });
      await world.image("demo");
      expect((await outcome()).reason).toBe(`${code}: not to be had`);
      expect(world.machine.builds).toEqual([]);
    },
  );

  test("refuses an artifact that is too large, whatever size it claims", async () => {
    const small = await World.create({ maxArtifactBytes: 1024 });
    small.objects.set("bucket/app.zip", () => Buffer.alloc(1025));
    await small.image("demo");
    world = small;
    expect((await outcome()).reason).toMatch(/^S3_INVALID_OBJECT: The code artifact is larger than/);
    expect(await text()).toContain("larger than 1024 bytes");
    expect(await readdir(join(small.dataDir, "incoming"))).toEqual([]);
  });

  test("an object source that is away for a moment is asked again, a few times", async () => {
    let asked = 0;
    const away = (times: number) => () => {
      if (asked++ < times) throw new BlobError("INTERNAL_PLATFORM_ERROR", "503");
      return Buffer.from("a zip");
    };
    world.objects.set("bucket/app.zip", away(2));
    const stepping = { done: false };
    const built = world.image("demo").finally(() => {
      stepping.done = true;
    });
    while (!stepping.done) await world.clock.advance(1000);
    await built;
    expect([(await outcome()).image, asked]).toEqual(["CREATED", 3]);
  });
});

test("a few builds at once, the others wait their turn", async () => {
  const held = world.hold("buildTemplate:half");
  const names = ["a", "b", "c", "d"];
  const creating = names.map((name) => world.image(name));
  await held.reached;
  while (world.machine.builds.length < 2) await new Promise((resolve) => setImmediate(resolve));
  expect(await states(names)).toEqual(["IN_PROGRESS", "IN_PROGRESS", "PENDING", "PENDING"]);
  expect(world.machine.builds).toHaveLength(2);
  held.release();
  await Promise.all(creating);
  await world.settled();
  expect(await states(names)).toEqual(["SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL"]);
});

test("after a crash what was being built is built anew, as another build of the same version", async () => {
  const held = world.hold("buildTemplate:half");
  const names = ["a", "b", "c"];
  for (const name of names) void world.image(name);
  while (world.machine.builds.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await world.crash();
  held.release();
  await world.settled();
  expect(await states(names)).toEqual(["SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL"]);
  const a = { imageIdentifier: imageArn("a"), imageVersion: "1.0" };
  const { items } = await world.operations.ListMicrovmImageBuilds(a, context());
  expect(items.map(({ buildState, stateReason }) => [buildState, stateReason])).toEqual([
    ["FAILED", expect.stringContaining("interrupted by a restart")],
    ["SUCCESSFUL", null],
  ]);
  expect(await world.operations.GetMicrovmImage({ imageIdentifier: imageArn("a") }, context())).toMatchObject({
    state: "CREATED",
    latestActiveImageVersion: "1.0",
    latestFailedImageVersion: null,
  });
  // Only the templates of builds that succeeded are left.
  expect(world.machine.templates.size).toBe(3);
  expect(world.machine.templates).toContain(items[1]?.buildId);
  expect(await readdir(join(world.dataDir, "incoming"))).toEqual([]);
  await world.running(imageArn("a"));
  expect(world.machine.launches[0]?.templateId).toBe(items[1]?.buildId);
});

test("a build that a crash interrupts twice has failed", async () => {
  const held = world.hold("buildTemplate:half");
  void world.image("demo");
  await held.reached;
  await world.crash();
  while (world.machine.builds.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await world.crash();
  held.release();
  await world.settled();
  expect(await outcome()).toEqual({
    image: "CREATE_FAILED",
    version: "FAILED",
    status: "INACTIVE",
    reason: expect.stringContaining("interrupted by a restart"),
    build: "FAILED",
  });
  expect(world.machine.builds).toHaveLength(2);
  expect(world.machine.templates.size).toBe(0);
});

test("a server that closes does not wait for builds: the next one begins them anew", async () => {
  const held = world.hold("buildTemplate:half");
  void world.image("demo");
  await held.reached;
  await world.restart();
  held.release();
  await world.settled();
  expect(await outcome()).toMatchObject({ image: "CREATED", version: "SUCCESSFUL" });
  expect(world.machine.templates.size).toBe(1);
});

async function states(names: readonly string[]): Promise<string[]> {
  const versions = await Promise.all(
    names.map((name) =>
      world.operations.GetMicrovmImageVersion({ imageIdentifier: imageArn(name), imageVersion: "1.0" }, context()),
    ),
  );
  return versions.map(({ state }) => state);
}
