import { beforeEach, describe, expect, test } from "vitest";
import { HostError } from "../../host/host-client.ts";
import { ACCOUNT, connectorArn, context, imageArn, World } from "../testing/world.ts";

const unknownId = "microvm-00000000-0000-3000-8000-000000000000";
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
      "a customer's connector, of which there is none",
      { egressNetworkConnectors: [`arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:nc-1`] },
      "not_found",
      `Network connector not found for: arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:nc-1`,
    ],
    [
      "an idle period longer than any life",
      { idlePolicy: { maxIdleDurationSeconds: 28_801, suspendedDurationSeconds: 0, autoResumeEnabled: false } },
      "invalid_input",
      "The maxIdleDurationSeconds of the idle policy must not exceed 28800, got 28801.",
    ],
    [
      "a negative suspended duration",
      { idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: -1, autoResumeEnabled: false } },
      "invalid_input",
      "The suspendedDurationSeconds of the idle policy must not be negative, got -1.",
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

describe("a microvm that is not there for the caller", () => {
  test("is not found by any operation", async () => {
    const id = await world.running(image);
    const cases: [string, ReturnType<typeof context>][] = [
      [unknownId, context()],
      ["not even an id", context()],
      [id, context("999999999999")],
    ];
    for (const [microvmIdentifier, who] of cases)
      for (const call of [
        () => world.operations.GetMicrovm({ microvmIdentifier }, who),
        () => world.operations.SuspendMicrovm({ microvmIdentifier }, who),
        () => world.operations.ResumeMicrovm({ microvmIdentifier }, who),
        () => world.operations.TerminateMicrovm({ microvmIdentifier }, who),
        () =>
          world.operations.CreateMicrovmAuthToken(
            { microvmIdentifier, expirationInMinutes: 1, allowedPorts: [{ port: 80 }] },
            who,
          ),
      ])
        await expect(call()).rejects.toMatchObject({
          kind: "not_found",
          message: `MicroVM not found: ${microvmIdentifier}`,
        });
    expect(await world.state(id)).toBe("RUNNING");
  });
});

describe("suspend, resume, terminate", () => {
  test("lead from RUNNING to SUSPENDED, back, and to the end", async () => {
    const microvmIdentifier = await world.running(image);
    const at = { microvmIdentifier };
    const held = world.hold("suspend:begin");
    expect(await world.operations.SuspendMicrovm(at, context())).toEqual({});
    expect(await world.state(microvmIdentifier)).toBe("SUSPENDING");
    held.release();
    await world.settled();
    expect(await world.state(microvmIdentifier)).toBe("SUSPENDED");

    expect(await world.operations.ResumeMicrovm(at, context())).toEqual({});
    expect(await world.state(microvmIdentifier)).toBe("RUNNING");

    const ending = world.hold("terminate:begin");
    expect(await world.operations.TerminateMicrovm(at, context())).toEqual({});
    expect(await world.state(microvmIdentifier)).toBe("TERMINATING");
    ending.release();
    await world.settled();
    expect(await world.operations.GetMicrovm(at, context())).toMatchObject({
      state: "TERMINATED",
      stateReason: "Success.",
      terminatedAt: new Date(world.clock.now()),
    });
    expect(world.machine.instances.size).toBe(0);
  });

  test("change nothing where they were done already", async () => {
    const at = { microvmIdentifier: await world.running(image) };
    await world.operations.ResumeMicrovm(at, context());
    await world.operations.SuspendMicrovm(at, context());
    await world.operations.SuspendMicrovm(at, context());
    await world.settled();
    await world.operations.SuspendMicrovm(at, context());
    await world.operations.TerminateMicrovm(at, context());
    await world.operations.TerminateMicrovm(at, context());
    await world.settled();
    await world.operations.TerminateMicrovm(at, context());
    await world.settled();
    const of = (operation: string) => world.machine.calls.filter((call) => call.startsWith(operation)).length;
    expect([of("suspend"), of("resume"), of("terminate")]).toEqual([1, 0, 1]);
  });

  test("are refused with the service's words once the microvm has ended", async () => {
    const microvmIdentifier = await world.running(image);
    await world.operations.TerminateMicrovm({ microvmIdentifier }, context());
    const message = `The MicroVM ${microvmIdentifier} has been terminated and its state cannot be changed.`;
    for (const settle of [false, true]) {
      if (settle) await world.settled();
      for (const call of [
        world.operations.SuspendMicrovm({ microvmIdentifier }, context()),
        world.operations.ResumeMicrovm({ microvmIdentifier }, context()),
        world.operations.CreateMicrovmAuthToken(
          { microvmIdentifier, expirationInMinutes: 1, allowedPorts: [{ port: 80 }] },
          context(),
        ),
      ])
        await expect(call).rejects.toMatchObject({ kind: "invalid_input", message });
    }
  });

  test("a PENDING microvm can be terminated but neither suspended nor resumed", async () => {
    const held = world.hold("launch:half");
    const { microvmId: microvmIdentifier } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    await held.reached;
    await expect(world.operations.SuspendMicrovm({ microvmIdentifier }, context())).rejects.toMatchObject({
      kind: "conflict",
    });
    await expect(world.operations.ResumeMicrovm({ microvmIdentifier }, context())).rejects.toMatchObject({
      kind: "conflict",
    });
    // Not waiting for the launch to come to its own end.
    await world.operations.TerminateMicrovm({ microvmIdentifier }, context());
    await world.settled();
    expect(await world.state(microvmIdentifier)).toBe("TERMINATED");
    expect(world.machine.instances.size).toBe(0);
    held.release();
  });

  test("a resume during a suspend waits for its end", async () => {
    const at = { microvmIdentifier: await world.running(image) };
    const held = world.hold("suspend:stopped");
    await world.operations.SuspendMicrovm(at, context());
    await held.reached;
    const resumed = world.operations.ResumeMicrovm(at, context());
    held.release();
    await resumed;
    expect(await world.state(at.microvmIdentifier)).toBe("RUNNING");
    expect(world.machine.violations).toEqual([]);
  });

  test("a suspend during a resume waits for its end", async () => {
    const at = { microvmIdentifier: await world.running(image) };
    await world.operations.SuspendMicrovm(at, context());
    await world.settled();
    const held = world.hold("resume:made");
    const resumed = world.operations.ResumeMicrovm(at, context());
    await held.reached;
    expect(await world.state(at.microvmIdentifier)).toBe("SUSPENDED");
    const suspended = world.operations.SuspendMicrovm(at, context());
    held.release();
    await Promise.all([resumed, suspended]);
    await world.settled();
    expect(await world.state(at.microvmIdentifier)).toBe("SUSPENDED");
  });

  test("a resume that takes long is answered before its end and goes on", async () => {
    const at = { microvmIdentifier: await world.running(image) };
    await world.operations.SuspendMicrovm(at, context());
    await world.settled();
    const held = world.hold("resume:made");
    const answer = world.operations.ResumeMicrovm(at, context());
    await held.reached;
    await world.clock.advance(10_000);
    expect(await answer).toEqual({});
    held.release();
    await world.settled();
    expect(await world.state(at.microvmIdentifier)).toBe("RUNNING");
  });

  test.each([
    ["capacity", "unavailable", /no room/],
    ["no_space", "unavailable", /no room/],
    ["corrupt", "conflict", /is corrupt here/],
    ["incompatible", "conflict", /is incompatible here/],
    ["internal", "internal", /resume/],
  ] as const)(
    "a resume that the host refuses (%s) is told, and the microvm stays suspended",
    async (why, kind, text) => {
      const at = { microvmIdentifier: await world.running(image) };
      await world.operations.SuspendMicrovm(at, context());
      await world.settled();
      world.machine.failNext("resume", new HostError(why, "no"));
      await expect(world.operations.ResumeMicrovm(at, context())).rejects.toMatchObject({
        kind,
        message: expect.stringMatching(text),
      });
      expect(await world.state(at.microvmIdentifier)).toBe("SUSPENDED");
      await world.operations.ResumeMicrovm(at, context());
      expect(await world.state(at.microvmIdentifier)).toBe("RUNNING");
    },
  );

  test("a suspended duration of zero ends the microvm instead", async () => {
    const microvmIdentifier = await world.running(image, {
      idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 0, autoResumeEnabled: true },
    });
    await world.operations.SuspendMicrovm({ microvmIdentifier }, context());
    await world.settled();
    expect(await world.operations.GetMicrovm({ microvmIdentifier }, context())).toMatchObject({
      state: "TERMINATED",
      stateReason: "MicroVM exceeded maximum lifetime.",
    });
  });
});

describe("ListMicrovms", () => {
  test("pages through the caller's microvms newest first while others come and go", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      ids.push(await world.running(image));
      await world.clock.advance(10);
    }
    const seen: string[] = [];
    let nextToken: string | null | undefined;
    do {
      const page: Awaited<ReturnType<typeof world.operations.ListMicrovms>> = await world.operations.ListMicrovms(
        { maxResults: 2, nextToken },
        context(),
      );
      seen.push(...page.items.map(({ microvmId }) => microvmId));
      nextToken = page.nextToken;
      await world.operations.TerminateMicrovm({ microvmIdentifier: ids[0] ?? "" }, context());
      await world.running(image);
      await world.clock.advance(10);
    } while (nextToken);
    expect(seen).toEqual(ids.toReversed());
  });

  test("shows thin items, terminated ones too, and null after the last page", async () => {
    const microvmId = await world.running(image);
    await world.operations.TerminateMicrovm({ microvmIdentifier: microvmId }, context());
    await world.settled();
    expect(await world.operations.ListMicrovms({}, context())).toEqual({
      items: [
        {
          microvmId,
          state: "TERMINATED",
          imageArn: image,
          imageVersion: "1.0",
          startedAt: new Date(world.clock.now()),
        },
      ],
      nextToken: null,
    });
    expect(await world.operations.ListMicrovms({}, context("999999999999"))).toEqual({ items: [], nextToken: null });
  });

  test("filters by image and version", async () => {
    const other = await world.image("other");
    const here = await world.running(image);
    const there = await world.running(other);
    const ids = async (filter: object) =>
      (await world.operations.ListMicrovms(filter, context())).items.map(({ microvmId }) => microvmId);
    expect(await ids({ imageIdentifier: image })).toEqual([here]);
    expect(await ids({ imageIdentifier: other, imageVersion: "1" })).toEqual([there]);
    expect(await ids({ imageIdentifier: other, imageVersion: "2.0" })).toEqual([]);
    expect(await ids({ imageVersion: "no version" })).toEqual([]);
    await expect(ids({ imageIdentifier: "demo" })).rejects.toThrow("Invalid ARN format: demo");
  });

  test("takes its own tokens only", async () => {
    for (let i = 0; i < 3; i++) await world.running(image);
    const { nextToken } = await world.operations.ListMicrovms({ maxResults: 1 }, context());
    const attempts: [object, string][] = [
      [{ nextToken: "garbage" }, ACCOUNT],
      [{ nextToken: "A".repeat(5000) }, ACCOUNT],
      [{ nextToken: `${nextToken}AA` }, ACCOUNT],
      [{ nextToken, imageIdentifier: image }, ACCOUNT],
      [{ nextToken }, "999999999999"],
    ];
    for (const [input, account] of attempts)
      await expect(world.operations.ListMicrovms(input, context(account))).rejects.toMatchObject({
        kind: "invalid_input",
      });
  });
});

describe("CreateMicrovmAuthToken", () => {
  test("mints what was asked for, also for a suspended microvm, without waking it", async () => {
    const microvmIdentifier = await world.running(image);
    await world.operations.SuspendMicrovm({ microvmIdentifier }, context());
    await world.settled();
    const answer = await world.operations.CreateMicrovmAuthToken(
      {
        microvmIdentifier,
        expirationInMinutes: 60,
        allowedPorts: [{ port: 8080 }, { range: { startPort: 9001, endPort: 9010 } }, { allPorts: {} }],
      },
      context(),
    );
    expect(answer).toEqual({ authToken: { "X-aws-proxy-auth": "token-1" } });
    expect(world.minted).toEqual([
      {
        microvmId: microvmIdentifier,
        kind: "http",
        ports: [
          { from: 8080, to: 8080 },
          { from: 9001, to: 9010 },
          { from: 1, to: 65_535 },
        ],
        expiresAt: new Date(world.clock.now() + 3_600_000),
      },
    ]);
    expect(await world.state(microvmIdentifier)).toBe("SUSPENDED");
  });

  test("refuses more than an hour and ranges that are none", async () => {
    const microvmIdentifier = await world.running(image);
    const mint = (expirationInMinutes: number, startPort: number) =>
      world.operations.CreateMicrovmAuthToken(
        { microvmIdentifier, expirationInMinutes, allowedPorts: [{ range: { startPort, endPort: 80 } }] },
        context(),
      );
    await expect(mint(61, 80)).rejects.toThrow("ExpirationMinutes 61 exceeded max allowed of 60.");
    await expect(mint(60, 81)).rejects.toThrow("The port range 81-80 ends before it starts.");
    expect(world.minted).toEqual([]);
  });
});
