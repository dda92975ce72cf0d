import type { OperationInput } from "@torpor/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { ACCOUNT, BASE_IMAGE, connectorArn, context, imageArn, World } from "../testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await World.create();
});

const request = {
  name: "demo",
  baseImageArn: BASE_IMAGE,
  buildRoleArn: "arn:aws:iam::000000000000:role/build",
  codeArtifact: { uri: "s3://bucket/app.zip" },
} satisfies OperationInput<"CreateMicrovmImage">;
const arn = imageArn("demo");

describe("CreateMicrovmImage", () => {
  test("answers CREATING with the configuration and its defaults", async () => {
    expect(await world.operations.CreateMicrovmImage(request, context())).toEqual({
      imageArn: arn,
      name: "demo",
      description: null,
      state: "CREATING",
      imageVersion: "1.0",
      latestActiveImageVersion: null,
      latestFailedImageVersion: null,
      createdAt: new Date(world.clock.now()),
      updatedAt: new Date(world.clock.now()),
      baseImageArn: BASE_IMAGE,
      baseImageVersion: "1.0",
      buildRoleArn: request.buildRoleArn,
      codeArtifact: { uri: "s3://bucket/app.zip" },
      egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")],
      resources: [{ minimumMemoryInMiB: 2048 }],
      cpuConfigurations: null,
      additionalOsCapabilities: null,
      environmentVariables: null,
      logging: null,
      tags: null,
      hooks: null,
    });
  });

  test("echoes what it was given", async () => {
    const given = {
      description: "an image",
      baseImageVersion: "0",
      resources: [{ minimumMemoryInMiB: 512 }],
      cpuConfigurations: [{ architecture: "X86_64" }],
      additionalOsCapabilities: ["ALL"],
      environmentVariables: { NAME: "value", $date: "kept as text" },
      logging: { disabled: {} },
      tags: { team: "a" },
      hooks: {
        port: 9000,
        microvmHooks: { run: "ENABLED", runTimeoutInSeconds: 5 },
        microvmImageHooks: { ready: "ENABLED", readyTimeoutInSeconds: 60 },
      },
    } as const;
    const answer = await world.operations.CreateMicrovmImage({ ...request, ...given, clientToken: "t" }, context());
    expect(answer).toMatchObject({ ...given, baseImageVersion: "0.0" });
    expect(await world.operations.CreateMicrovmImage({ ...request, ...given, clientToken: "t" }, context())).toEqual(
      answer,
    );
    await world.settled();
    const version = await world.operations.GetMicrovmImageVersion(
      { imageIdentifier: arn, imageVersion: "1" },
      context(),
    );
    const { tags, ...configuration } = given;
    expect(version).toMatchObject({ ...configuration, baseImageVersion: "0.0", tags: null });
    expect((await world.operations.GetMicrovmImage({ imageIdentifier: arn }, context())).tags).toEqual(tags);
  });

  const ready = { microvmImageHooks: { ready: "ENABLED" } } as const;
  test.each<[string, object, string, string]>([
    ["a base image that is no ARN", { baseImageArn: "al2023-1" }, "invalid_input", "Invalid ARN format: al2023-1"],
    [
      "an unknown base image",
      { baseImageArn: `${BASE_IMAGE}0` },
      "not_found",
      `MicroVMImage not found for MicroVMImageID: ${BASE_IMAGE}0`,
    ],
    [
      "one's own image as base",
      { baseImageArn: arn },
      "not_found",
      `MicroVMImage not found for MicroVMImageID: ${arn}`,
    ],
    [
      "the base image of another region",
      { baseImageArn: BASE_IMAGE.replace("us-east-1", "eu-west-1") },
      "not_found",
      `MicroVMImage not found for MicroVMImageID: ${BASE_IMAGE.replace("us-east-1", "eu-west-1")}`,
    ],
    [
      "an unknown version of the base image",
      { baseImageVersion: "2" },
      "not_found",
      `MicroVMImage not found for MicroVMImage: ${BASE_IMAGE}, Version: 2`,
    ],
    [
      "an artifact that is not in S3",
      { codeArtifact: { uri: "https://example.com/app.zip" } },
      "invalid_input",
      "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
    ],
    [
      "a bucket without a key",
      { codeArtifact: { uri: "s3://bucket/" } },
      "invalid_input",
      "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
    ],
    [
      "no artifact at all",
      { codeArtifact: {} },
      "invalid_input",
      "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
    ],
    [
      "a memory size between the sizes",
      { resources: [{ minimumMemoryInMiB: 3072 }] },
      "invalid_input",
      `The requested memory size of 3072 MiB is not supported by base MicroVM image ${BASE_IMAGE}. Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192].`,
    ],
    [
      "another processor than the host's",
      { cpuConfigurations: [{ architecture: "ARM_64" }] },
      "invalid_input",
      "The architecture ARM_64 is not supported by this host. Supported architectures are: [X86_64].",
    ],
    [
      "a reserved variable",
      { environmentVariables: { AWS_REGION: "x" } },
      "invalid_input",
      "Environment variable key 'AWS_REGION' is reserved",
    ],
    [
      "another reserved variable",
      { environmentVariables: { AWS_LAMBDA_MICROVM_IMAGE_ARN: "x" } },
      "invalid_input",
      "Environment variable key 'AWS_LAMBDA_MICROVM_IMAGE_ARN' is reserved",
    ],
    [
      "a variable name that no environment can hold",
      { environmentVariables: { "A=B": "x" } },
      "invalid_input",
      "Environment variable key \"A=B\" must not contain '=' or a NUL character",
    ],
    [
      "a value that no environment can hold",
      { environmentVariables: { A: "secret\0" } },
      "invalid_input",
      "The value of the environment variable 'A' must not contain a NUL character",
    ],
    ...(["run", "resume", "suspend", "terminate"] as const).map((hook): [string, object, string, string] => [
      `the ${hook} hook without ready`,
      { hooks: { port: 9000, microvmHooks: { [hook]: "ENABLED" } } },
      "invalid_input",
      "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook (run, resume, suspend, or terminate) is enabled. The ready hook signals when the application has finished initializing so the snapshot is taken in a ready state.",
    ]),
    [
      "hooks without a port",
      { hooks: ready },
      "invalid_input",
      "The hooks port must be specified when any hook is enabled.",
    ],
    [
      "an unknown egress connector",
      { egressNetworkConnectors: ["internet"] },
      "invalid_input",
      "Malformed network connector ARN: internet",
    ],
    [
      "both kinds of logging",
      { logging: { disabled: {}, cloudWatch: {} } },
      "invalid_input",
      "The logging configuration must be either disabled or cloudWatch, not both.",
    ],
    [
      "too many tags",
      { tags: Object.fromEntries(Array.from({ length: 51 }, (_, n) => [`tag-${n}`, ""])) },
      "invalid_parameter",
      "A resource can have at most 50 tags; it would have 51.",
    ],
    [
      "a tag of AWS's own",
      { tags: { "aws:cloudformation:stack": "x" } },
      "invalid_parameter",
      "The tag key aws:cloudformation:stack begins with aws:, which is reserved for AWS itself.",
    ],
  ])("refuses %s", async (_, input, kind, message) => {
    await expect(world.operations.CreateMicrovmImage({ ...request, ...input }, context())).rejects.toMatchObject({
      kind,
      message,
    });
    await expect(world.operations.GetMicrovmImage({ imageIdentifier: arn }, context())).rejects.toMatchObject({
      kind: "not_found",
    });
  });

  test("DISABLED hooks need neither ready nor a port", async () => {
    await world.operations.CreateMicrovmImage(
      { ...request, hooks: { microvmHooks: { run: "DISABLED" }, microvmImageHooks: { validate: "DISABLED" } } },
      context(),
    );
  });

  test("takes a name once, also for many at once and for an image that failed", async () => {
    world.objects.clear();
    const race = await Promise.allSettled([1, 2, 3].map(() => world.operations.CreateMicrovmImage(request, context())));
    expect(race.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
    await world.settled();
    await expect(world.operations.CreateMicrovmImage(request, context())).rejects.toMatchObject({
      kind: "invalid_input",
      message: "MicroVM image with name demo already exists",
    });
    await world.operations.CreateMicrovmImage(request, context("999999999999"));
  });

  test("the same clientToken gets the same answer, a changed request a conflict", async () => {
    const first = await world.operations.CreateMicrovmImage({ ...request, clientToken: "t" }, context());
    await world.settled();
    const reordered = Object.fromEntries(Object.entries({ ...request, clientToken: "t" }).reverse());
    expect(
      await world.operations.CreateMicrovmImage(reordered as typeof request & { clientToken: string }, context()),
    ).toEqual(first);
    await expect(
      world.operations.CreateMicrovmImage({ ...request, description: "new", clientToken: "t" }, context()),
    ).rejects.toMatchObject({ kind: "conflict" });
    expect(world.machine.builds).toHaveLength(1);
  });
});

describe("reading images", () => {
  test("GetMicrovmImage shows state, versions and tags", async () => {
    await world.image("demo");
    expect(await world.operations.GetMicrovmImage({ imageIdentifier: arn }, context())).toEqual({
      imageArn: arn,
      name: "demo",
      state: "CREATED",
      latestActiveImageVersion: "1.0",
      latestFailedImageVersion: null,
      createdAt: new Date(world.clock.now()),
      updatedAt: new Date(world.clock.now()),
      tags: {},
    });
  });

  test("builds are listed thin and shown with their sizes", async () => {
    await world.image("demo");
    const version = { imageIdentifier: arn, imageVersion: "1.0" };
    const { items, nextToken } = await world.operations.ListMicrovmImageBuilds(version, context());
    expect(nextToken).toBeNull();
    expect(items).toEqual([
      {
        imageArn: arn,
        imageVersion: "1.0",
        buildId: expect.stringMatching(/^[0-9a-f-]{36}$/),
        buildState: "SUCCESSFUL",
        architecture: "X86_64",
        chipset: "GENERIC",
        chipsetGeneration: "1",
        createdAt: new Date(world.clock.now()),
        stateReason: null,
      },
    ]);
    const buildId = items[0]?.buildId ?? "";
    expect(await world.operations.GetMicrovmImageBuild({ ...version, buildId }, context())).toEqual({
      ...items[0],
      snapshotBuild: { memorySnapshotSizeInBytes: 600, codeInstallSizeInBytes: 200, diskSnapshotSizeInBytes: 100 },
    });
    const list = async (filter: Partial<OperationInput<"ListMicrovmImageBuilds">>) =>
      (await world.operations.ListMicrovmImageBuilds({ ...version, ...filter }, context())).items.length;
    expect(await list({ architecture: "X86_64", chipset: "GENERIC", chipsetGeneration: "1" })).toBe(1);
    expect(await list({ architecture: "ARM_64" })).toBe(0);
    expect(await list({ chipset: "GRAVITON" })).toBe(0);
    expect(await list({ chipsetGeneration: "4" })).toBe(0);
    await expect(list({ nextToken: "garbage" })).rejects.toMatchObject({ kind: "invalid_input" });
  });

  test("what is not there is told in the service's words", async () => {
    await world.image("demo");
    const other = imageArn("other");
    const { GetMicrovmImage, GetMicrovmImageVersion, ListMicrovmImageBuilds, GetMicrovmImageBuild } = world.operations;
    await expect(GetMicrovmImage({ imageIdentifier: other }, context())).rejects.toMatchObject({
      kind: "not_found",
      message: `MicroVMImage not found for MicroVMImageID: ${other}`,
    });
    for (const [imageIdentifier, imageVersion] of [
      [other, "1.0"],
      [arn, "2.0"],
      [arn, "latest"],
    ] as const)
      for (const call of [
        () => GetMicrovmImageVersion({ imageIdentifier, imageVersion }, context()),
        () => ListMicrovmImageBuilds({ imageIdentifier, imageVersion }, context()),
        () => GetMicrovmImageBuild({ imageIdentifier, imageVersion, buildId: "b" }, context()),
      ])
        await expect(call()).rejects.toMatchObject({
          kind: "not_found",
          message: `MicroVMImage not found for MicroVMImage: ${imageIdentifier}, Version: ${imageVersion}`,
        });
    await expect(
      GetMicrovmImageBuild({ imageIdentifier: arn, imageVersion: "1.0", buildId: "b" }, context()),
    ).rejects.toMatchObject({ kind: "not_found" });
  });

  test("bare names are malformed and another account's images denied", async () => {
    await world.image("demo");
    const get = (imageIdentifier: string, who = ACCOUNT) =>
      world.operations.GetMicrovmImage({ imageIdentifier }, context(who));
    await expect(get("demo")).rejects.toMatchObject({ kind: "invalid_input", message: "Invalid ARN format: demo" });
    await expect(get(arn, "999999999999")).rejects.toMatchObject({ kind: "denied" });
    await expect(get(BASE_IMAGE)).rejects.toMatchObject({ kind: "not_found" });
  });
});
