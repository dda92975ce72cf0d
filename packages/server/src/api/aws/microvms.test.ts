import * as aws from "@aws-sdk/client-lambda-microvms";
import { describe, expect, test } from "vitest";
import { BASE_IMAGE, connectorArn, context, imageArn, World, type WorldOptions } from "../../control/testing/world.ts";
import { startApi, type TestApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

/** The real client, the API and the control plane; only the host is a fake. */

const ARN = imageArn("demo", KEY.accountId);
const RUN = "/2025-09-09/microvms";
const NONE = { resourceId: null, resourceType: null };

interface Service {
  readonly world: World;
  readonly client: aws.LambdaMicrovmsClient;
  readonly send: TestApi["send"];
}
async function start(options: WorldOptions = {}): Promise<Service> {
  const world = await World.create(options);
  const { longestLife } = world.control;
  const api = await startApi({ operations: world.operations, longestLife });
  const client = api.client();
  await client.send(
    new aws.CreateMicrovmImageCommand({
      name: "demo",
      baseImageArn: BASE_IMAGE,
      buildRoleArn: `arn:aws:iam::${KEY.accountId}:role/build`,
      codeArtifact: { uri: "s3://bucket/app.zip" },
      hooks: {
        port: 9000,
        microvmHooks: { run: "ENABLED" },
        microvmImageHooks: { ready: "ENABLED" },
      },
    }),
  );
  await world.settled();
  return { world, client, send: api.send };
}

async function answerOf(response: Response): Promise<unknown[]> {
  return [response.status, response.headers.get("x-amzn-errortype"), await response.json()];
}

test("every member of RunMicrovm is told by GetMicrovm, and what is unset is null", async () => {
  const { world, client, send } = await start();
  const given = {
    idlePolicy: { maxIdleDurationSeconds: 300, suspendedDurationSeconds: 3600, autoResumeEnabled: true },
    maximumDurationInSeconds: 3600,
    executionRoleArn: `arn:aws:iam::${KEY.accountId}:role/run`,
    ingressNetworkConnectors: ["HTTP_INGRESS", "SHELL_INGRESS"].map(connectorArn),
    egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")],
  };
  const run = new aws.RunMicrovmCommand({
    ...given,
    imageIdentifier: ARN,
    imageVersion: "1",
    runHookPayload: "p".repeat(4096),
    logging: { disabled: {} },
  });
  const { $metadata, ...answer } = await client.send(run);
  expect($metadata.httpStatusCode).toBe(200);
  expect(answer).toMatchObject({ ...given, imageArn: ARN, imageVersion: "1.0", state: "PENDING" });
  await world.settled();
  const { microvmId = "" } = answer;
  const told = await client.send(new aws.GetMicrovmCommand({ microvmIdentifier: microvmId }));
  expect(told).toMatchObject({ ...given, endpoint: answer.endpoint, startedAt: answer.startedAt, state: "RUNNING" });

  const nulls = { imageIdentifier: ARN, idlePolicy: null, imageVersion: null, logging: null, runHookPayload: null };
  const response = await send({ method: "POST", path: RUN, body: JSON.stringify(nulls) });
  const startedAt = world.clock.now() / 1000;
  expect(await answerOf(response)).toEqual([
    200,
    null,
    {
      microvmId: expect.stringMatching(/^microvm-[0-9a-f-]{36}$/),
      state: "PENDING",
      endpoint: expect.stringMatching(/^[0-9a-f-]{36}\./),
      imageArn: ARN,
      imageVersion: "1.0",
      executionRoleArn: null,
      idlePolicy: null,
      maximumDurationInSeconds: 28_800,
      startedAt,
      terminatedAt: null,
      stateReason: null,
      ingressNetworkConnectors: [connectorArn("HTTP_INGRESS")],
      egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")],
    },
  ]);
  const { items } = Object((await answerOf(await send({ method: "GET", path: RUN })))[2]);
  expect(items).toHaveLength(2);
  expect(Object.keys(items[0])).toEqual(["microvmId", "state", "imageArn", "imageVersion", "startedAt"]);
});

test("RunMicrovm checks in the recorded order", async () => {
  const { send, world } = await start();
  const wrong = {
    runHookPayload: "p".repeat(4097),
    imageIdentifier: "demo",
    imageVersion: "9.0",
    ingressNetworkConnectors: ["word"],
  };
  const run = async (body: object): Promise<unknown> => {
    const [, , answer] = await answerOf(await send({ method: "POST", path: RUN, body: JSON.stringify(body) }));
    return Reflect.get(Object(answer), "message");
  };
  expect(await run(wrong)).toMatch(/^1 validation error detected: Value at 'runHookPayload'/);
  const payload = { ...wrong, runHookPayload: "p" };
  expect(await run(payload)).toBe("Malformed ARN - doesn't start with 'arn:'");
  const arn = { ...payload, imageIdentifier: ARN };
  expect(await run(arn)).toBe(`No active version found for MicroVM image ${ARN}`);
  const version = { ...arn, imageVersion: "1.0" };
  expect(await run(version)).toBe("Malformed network connector ARN: word");
  const unknown = connectorArn("NO_EGRESS");
  const ingress = { ...version, ingressNetworkConnectors: null, egressNetworkConnectors: [unknown] };
  expect(await run(ingress)).toBe(`Unrecognized managed network connector ARN: ${unknown}`);
  const both = ["ALL_INGRESS", "HTTP_INGRESS"].map(connectorArn);
  expect(await run({ ...version, ingressNetworkConnectors: both })).toBe(
    "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead",
  );
  expect(world.machine.calls).toEqual([]);
});

describe("who is asked for", () => {
  test("may be spelled with colons or without", async () => {
    const { world, client, send } = await start();
    const { microvmId = "" } = await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
    await world.settled();
    for (const arn of [ARN, encodeURIComponent(ARN)]) {
      const image = await send({ method: "GET", path: `/2025-09-09/microvm-images/${arn}` });
      expect(image.status).toBe(200);
    }
    const listed = await send({ method: "GET", path: RUN, query: { imageIdentifier: ARN } });
    expect(await listed.json()).toMatchObject({ items: [{ microvmId }], nextToken: null });
  });

  test("is another account's, of another region, or nobody", async () => {
    const { send } = await start();
    const foreign = imageArn("demo", "000000000000");
    for (const request of [
      { method: "POST", path: RUN, body: JSON.stringify({ imageIdentifier: foreign }) },
      { method: "GET", path: RUN, query: { imageIdentifier: foreign } },
      { method: "GET", path: `/2025-09-09/microvm-images/${encodeURIComponent(foreign)}` },
    ])
      expect((await answerOf(await send(request))).slice(0, 2)).toEqual([403, "AccessDeniedException"]);
    const elsewhere = ARN.replace("us-east-1", "eu-west-1");
    expect(
      await answerOf(await send({ method: "POST", path: RUN, body: JSON.stringify({ imageIdentifier: elsewhere }) })),
    ).toEqual([
      404,
      "ResourceNotFoundException",
      { message: `No active version found for MicroVM image ${elsewhere}`, ...NONE },
    ]);
    for (const id of ["microvm-1", "MICROVM-00000000-0000-3000-8000-000000000000", "a%2fb", "x".repeat(256)]) {
      const answer = await answerOf(await send({ method: "GET", path: `${RUN}/${id}` }));
      const told = decodeURIComponent(id);
      expect(answer).toEqual([404, "ResourceNotFoundException", { message: `MicroVM not found: ${told}`, ...NONE }]);
    }
    expect((await answerOf(await send({ method: "GET", path: `${RUN}/${"x".repeat(257)}` }))).slice(0, 2)).toEqual([
      400,
      "ValidationException",
    ]);
  });
});

describe("clientToken", () => {
  const request = { imageIdentifier: ARN, clientToken: "t", runHookPayload: "p" };

  test("makes one microvm of many requests at once, and tells the same of it for ever", async () => {
    const { world, client } = await start();
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => client.send(new aws.RunMicrovmCommand(request))),
    );
    expect(new Set(answers.map(({ microvmId }) => microvmId))).toHaveLength(1);
    await world.settled();
    const microvmIdentifier = answers[0]?.microvmId;
    await client.send(new aws.TerminateMicrovmCommand({ microvmIdentifier }));
    await world.settled();
    await world.restart();
    const later = (await startApi({ operations: world.operations })).client();
    const { $metadata: _, ...again } = await later.send(new aws.RunMicrovmCommand(request));
    const { $metadata: __, ...first } = answers[0]!;
    expect(again).toEqual(first);
    expect(again.state).toBe("PENDING");
    expect((await later.send(new aws.ListMicrovmsCommand({}))).items).toMatchObject([{ state: "TERMINATED" }]);
  });

  test.each([
    ["payload", { runHookPayload: "q" }],
    ["payload that is not there", { runHookPayload: undefined }],
    ["duration", { maximumDurationInSeconds: 60 }],
    ["connectors", { egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")] }],
  ])("is refused with another %s", async (_, other) => {
    const { client } = await start();
    await client.send(new aws.RunMicrovmCommand(request));
    const refused = await client.send(new aws.RunMicrovmCommand({ ...request, ...other })).catch((err: unknown) => err);
    expect(refused).toBeInstanceOf(aws.ConflictException);
    expect((await client.send(new aws.ListMicrovmsCommand({}))).items).toHaveLength(1);
  });
});

describe("the longest life", () => {
  const run = (service: Service, maximumDurationInSeconds: number) =>
    service.client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN, maximumDurationInSeconds }));

  test("is AWS's", async () => {
    const service = await start();
    expect(await run(service, 28_800)).toMatchObject({ maximumDurationInSeconds: 28_800 });
    await expect(run(service, 28_801)).rejects.toThrow(
      "1 validation error detected: Value '28801' at 'maximumDurationInSeconds' failed to satisfy constraint: Member must have value less than or equal to 28800",
    );
    await expect(run(service, 0)).rejects.toThrow("greater than or equal to 1");
  });

  test("can be raised for an account, and is as long as before for who does not ask", async () => {
    const service = await start();
    await expect(run(service, 100_000)).rejects.toThrow("less than or equal to 28800");
    const { quotas } = service.world.control.extensions;
    await quotas.set(context(), KEY.accountId, "maximum-duration-seconds", 100_000);
    const idlePolicy = { maxIdleDurationSeconds: 90_000, suspendedDurationSeconds: 1, autoResumeEnabled: false };
    const asked = await service.client.send(
      new aws.RunMicrovmCommand({ imageIdentifier: ARN, maximumDurationInSeconds: 100_000, idlePolicy }),
    );
    expect(asked).toMatchObject({ maximumDurationInSeconds: 100_000, idlePolicy });
    await expect(run(service, 100_001)).rejects.toThrow("less than or equal to 100000");
    const silent = await service.client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
    expect(silent.maximumDurationInSeconds).toBe(28_800);
  });
});

describe("tokens for shells", () => {
  test("are minted where the connector is, and refused in the recorded words elsewhere", async () => {
    const { world, client, send } = await start();
    const run = async (...names: string[]): Promise<string> => {
      const ingressNetworkConnectors = names.map(connectorArn);
      const vm = await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN, ingressNetworkConnectors }));
      await world.settled();
      return vm.microvmId ?? "";
    };
    const mint = (microvmIdentifier: string, expirationInMinutes = 30) =>
      client.send(new aws.CreateMicrovmShellAuthTokenCommand({ microvmIdentifier, expirationInMinutes }));
    const shell = await run("SHELL_INGRESS");
    expect((await mint(shell)).authToken).toEqual({ "X-aws-proxy-auth": expect.any(String) });
    expect(world.minted).toMatchObject([{ microvmId: shell, kind: "shell", ports: [] }]);
    await expect(mint(await run())).rejects.toThrow(
      "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.",
    );
    await expect(mint(shell, 61)).rejects.toThrow("ExpirationMinutes 61 exceeded max allowed of 60.");
    const path = `${RUN}/${shell}/shell-auth-token`;
    expect(await answerOf(await send({ method: "POST", path, body: '{"expirationInMinutes":0}' }))).toEqual([
      400,
      "ValidationException",
      {
        message:
          "1 validation error detected: Value '0' at 'expirationInMinutes' failed to satisfy constraint: Member must have value greater than or equal to 1",
      },
    ]);
    expect((await answerOf(await send({ method: "POST", path }))).slice(0, 2)).toEqual([400, "ValidationException"]);
  });
});

test("a page token that was changed, made up, or is of another list is refused", async () => {
  const { client, send } = await start();
  for (let n = 0; n < 3; n++) await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
  const { nextToken = "" } = await client.send(new aws.ListMicrovmsCommand({ maxResults: 1 }));
  const message = "The nextToken is not valid. Use the one of the previous page, with the same filters.";
  const list = async (query: Record<string, string>): Promise<unknown[]> =>
    await answerOf(await send({ method: "GET", path: RUN, query }));
  expect((await list({ nextToken }))[0]).toBe(200);
  const place: unknown = JSON.parse(Buffer.from(nextToken, "base64url").toString());
  const made = (...parts: unknown[]): string => Buffer.from(JSON.stringify(parts)).toString("base64url");
  const [digest = "", at = 0, id = ""] = Array.isArray(place) ? place : [];
  for (const forged of ["x", nextToken.slice(1), `${nextToken}A`, made(digest, at + 1, id), made(digest), made(1)])
    expect(await list({ nextToken: forged })).toEqual([400, "ValidationException", { message }]);
  for (let i = 0; i < nextToken.length; i++) {
    const flipped = nextToken.slice(0, i) + (nextToken[i] === "A" ? "B" : "A") + nextToken.slice(i + 1);
    expect((await list({ nextToken: flipped }))[0]).toBe(400);
  }
  expect(await list({ nextToken, imageIdentifier: ARN })).toEqual([400, "ValidationException", { message }]);
});

test("a host without room says so, and a broken one says when to come back", async () => {
  const { world, client, send } = await start({ maxMicrovms: 1 });
  await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
  await expect(client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }))).rejects.toBeInstanceOf(
    aws.InsufficientCapacityException,
  );
  await world.settled();
  world.storeFailure = new Error("no disk");
  const broken = await send({ method: "GET", path: RUN });
  expect([broken.status, broken.headers.get("x-amzn-errortype"), broken.headers.get("retry-after")]).toEqual([
    500,
    "InternalServerException",
    "1",
  ]);
  expect(await broken.text()).not.toContain("no disk");
  world.storeFailure = undefined;
});
