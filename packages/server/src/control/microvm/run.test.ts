import { beforeEach, describe, expect, test } from "vitest";
import { ACCOUNT, connectorArn, context, imageArn, World } from "../testing/world.ts";

let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo");
});

describe("RunMicrovm", () => {
  test("answers PENDING with every member, and the microvm runs soon after", async () => {
    const answer = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    expect(answer).toEqual({
      microvmId: expect.stringMatching(/^microvm-[0-9a-f-]{36}$/),
      state: "PENDING",
      endpoint: expect.stringMatching(/^[0-9a-f-]{36}\.lambda-microvm\.localhost:4743$/),
      imageArn: image,
      imageVersion: "1.0",
      executionRoleArn: null,
      idlePolicy: null,
      maximumDurationInSeconds: 28_800,
      startedAt: new Date(world.clock.now()),
      terminatedAt: null,
      stateReason: null,
      ingressNetworkConnectors: [connectorArn("HTTP_INGRESS")],
      egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")],
    });
    expect(answer.endpoint).not.toContain(answer.microvmId.slice("microvm-".length));
    await world.settled();
    expect(await world.operations.GetMicrovm({ microvmIdentifier: answer.microvmId }, context())).toEqual({
      ...answer,
      state: "RUNNING",
    });
  });

  test("echoes what it was given", async () => {
    const given = {
      imageVersion: "1",
      executionRoleArn: "arn:aws:iam::000000000000:role/run",
      idlePolicy: { maxIdleDurationSeconds: 300, suspendedDurationSeconds: 3600, autoResumeEnabled: true },
      maximumDurationInSeconds: 3600,
      ingressNetworkConnectors: [connectorArn("HTTP_INGRESS"), connectorArn("SHELL_INGRESS")],
      egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")],
      logging: { cloudWatch: { logGroup: "group" } },
    };
    const { logging: _, ...echoed } = given;
    const answer = await world.operations.RunMicrovm({ imageIdentifier: image, ...given }, context());
    expect(answer).toMatchObject({ ...echoed, imageVersion: "1.0" });
  });

  test.each([
    ["a bare name", { imageIdentifier: "demo" }, "invalid_input", "Malformed ARN - doesn't start with 'arn:'"],
    ["half an ARN", { imageIdentifier: "arn:aws:lambda:x" }, "invalid_input", "Invalid ARN format: arn:aws:lambda:x"],
    [
      "an unknown image",
      { imageIdentifier: imageArn("other") },
      "not_found",
      `No active version found for MicroVM image ${imageArn("other")}`,
    ],
    [
      "an unknown version",
      { imageVersion: "2.0" },
      "not_found",
      `No active version found for MicroVM image ${imageArn("demo")}`,
    ],
    [
      "what is no version",
      { imageVersion: "newest" },
      "not_found",
      `No active version found for MicroVM image ${imageArn("demo")}`,
    ],
    [
      "a payload without a run hook",
      { runHookPayload: "x" },
      "invalid_input",
      "The run hook must be enabled in the MicroVM image to pass the run hook payload",
    ],
    [
      "a connector's bare name",
      { ingressNetworkConnectors: ["HTTP_INGRESS"] },
      "invalid_input",
      "Malformed network connector ARN: HTTP_INGRESS",
    ],
    [
      "an unknown managed connector",
      { egressNetworkConnectors: [connectorArn("NO_EGRESS")] },
      "invalid_input",
      `Unrecognized managed network connector ARN: ${connectorArn("NO_EGRESS")}`,
    ],
    [
      "a managed connector of another region",
      { ingressNetworkConnectors: [connectorArn("HTTP_INGRESS").replace("us-east-1", "eu-west-1")] },
      "invalid_input",
      `Unrecognized managed network connector ARN: ${connectorArn("HTTP_INGRESS").replace("us-east-1", "eu-west-1")}`,
    ],
    [
      "ALL_INGRESS beside another one",
      { ingressNetworkConnectors: [connectorArn("ALL_INGRESS"), connectorArn("SHELL_INGRESS")] },
      "invalid_input",
      "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead",
    ],
    [
      "an egress connector for ingress",
      { ingressNetworkConnectors: [connectorArn("INTERNET_EGRESS")] },
      "invalid_input",
      `The network connector ${connectorArn("INTERNET_EGRESS")} cannot be used for ingress.`,
    ],
    [
      "an ingress connector for egress",
      { egressNetworkConnectors: [connectorArn("HTTP_INGRESS")] },
      "invalid_input",
      `The network connector ${connectorArn("HTTP_INGRESS")} cannot be used for egress.`,
    ],
    [
      "a connector that is not there",
      { egressNetworkConnectors: [`arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:nc-1`] },
      "invalid_input",
      `The network connector arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:nc-1 does not exist.`,
    ],
    [
      "what is not even a connector's id, beside what is",
      {
        egressNetworkConnectors: [
          connectorArn("INTERNET_EGRESS"),
          `arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:a/b`,
        ],
      },
      "invalid_input",
      `The network connector arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:a/b does not exist.`,
    ],
    [
      "an idle period longer than any life",
      { idlePolicy: { maxIdleDurationSeconds: 28_801, suspendedDurationSeconds: 0, autoResumeEnabled: false } },
      "invalid_input",
      "The maxIdleDurationSeconds of the idle policy must not exceed 28800, got 28801.",
    ],
  ])("refuses %s", async (_, input, kind, message) => {
    await expect(world.operations.RunMicrovm({ imageIdentifier: image, ...input }, context())).rejects.toMatchObject({
      kind,
      message,
    });
    expect(world.machine.launches).toEqual([]);
  });

  test("refuses another account's image before it looks whether there is one", async () => {
    const foreign = imageArn("demo", "999999999999");
    await expect(world.operations.RunMicrovm({ imageIdentifier: foreign }, context())).rejects.toMatchObject({
      kind: "denied",
      message: `User: arn:aws:iam::${ACCOUNT}:root is not authorized to perform: lambda:RunMicrovm on resource: ${foreign} because no identity-based policy allows the lambda:RunMicrovm action`,
    });
  });

  test("checks the version before the payload and the payload before connectors", async () => {
    const everythingWrong = { runHookPayload: "x", ingressNetworkConnectors: ["bad"] };
    const run = (input: object) => world.operations.RunMicrovm({ imageIdentifier: image, ...input }, context());
    await expect(run({ ...everythingWrong, imageVersion: "9" })).rejects.toThrow("No active version");
    await expect(run(everythingWrong)).rejects.toThrow("run hook must be enabled");
  });

  test("hands the payload to the run hook, and nobody can read it afterwards", async () => {
    const hooked = await world.image("hooked", {
      hooks: {
        port: 9000,
        microvmHooks: { run: "ENABLED", runTimeoutInSeconds: 5 },
        microvmImageHooks: { ready: "ENABLED" },
      },
    });
    const id = await world.running(hooked, { runHookPayload: '{"tenant":"t-17"}' });
    expect(world.machine.launches).toEqual([
      {
        microvmId: id,
        templateId: [...world.machine.templates][1],
        runHook: { port: 9000, timeoutMs: 5000, payload: '{"tenant":"t-17"}' },
      },
    ]);
    expect(JSON.stringify(await world.store.microvms.find(id))).not.toContain("t-17");
    await world.running(hooked);
    expect(world.machine.launches[1]?.runHook).toEqual({ port: 9000, timeoutMs: 5000, payload: null });
  });

  test("refuses what the host is not configured for", async () => {
    const small = await World.create({ maxMicrovms: 2 });
    const arn = await small.image("demo");
    const first = await small.running(arn);
    const race = await Promise.allSettled(
      [1, 2, 3].map(() => small.operations.RunMicrovm({ imageIdentifier: arn }, context())),
    );
    expect(race.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
    await expect(small.operations.RunMicrovm({ imageIdentifier: arn }, context())).rejects.toMatchObject({
      kind: "capacity",
    });
    await small.settled();
    await small.operations.SuspendMicrovm({ microvmIdentifier: first }, context());
    await small.settled();
    await small.running(arn);
    await expect(small.operations.ResumeMicrovm({ microvmIdentifier: first }, context())).rejects.toMatchObject({
      kind: "unavailable",
      message: expect.stringContaining("no room"),
    });
    expect(await small.state(first)).toBe("SUSPENDED");
  });
});

describe("clientToken", () => {
  test("the same request gets the first answer again, whatever became of the microvm", async () => {
    const request = { imageIdentifier: image, clientToken: "token-1" };
    const first = await world.operations.RunMicrovm(request, context());
    await world.settled();
    await world.operations.TerminateMicrovm({ microvmIdentifier: first.microvmId }, context());
    await world.settled();
    expect(await world.operations.RunMicrovm({ ...request, idlePolicy: null }, context())).toEqual(first);
    await world.restart();
    expect(await world.operations.RunMicrovm(request, context())).toEqual(first);
    expect(world.machine.launches).toHaveLength(1);
  });

  test("another request under the same token is a conflict", async () => {
    await world.operations.RunMicrovm({ imageIdentifier: image, clientToken: "t" }, context());
    await expect(
      world.operations.RunMicrovm(
        { imageIdentifier: image, clientToken: "t", maximumDurationInSeconds: 60 },
        context(),
      ),
    ).rejects.toMatchObject({ kind: "conflict" });
  });

  test("many at once start one microvm", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        world.operations.RunMicrovm({ imageIdentifier: image, clientToken: "t" }, context()),
      ),
    );
    expect(new Set(answers.map(({ microvmId }) => microvmId)).size).toBe(1);
    await world.settled();
    expect(world.machine.instances.size).toBe(1);
  });

  test("belongs to an account, and a refused request does not use it up", async () => {
    const request = { imageIdentifier: image, clientToken: "t" };
    await expect(
      world.operations.RunMicrovm({ ...request, runHookPayload: "not possible" }, context()),
    ).rejects.toThrow();
    const first = await world.operations.RunMicrovm(request, context());
    await expect(world.operations.RunMicrovm(request, context("999999999999"))).rejects.toMatchObject({
      kind: "denied",
    });
    expect(first.state).toBe("PENDING");
  });
});
