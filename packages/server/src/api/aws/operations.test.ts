import * as aws from "@aws-sdk/client-lambda-microvms";
import { describe, expect, test } from "vitest";
import { TorporError } from "../../lib/errors.ts";
import { IMAGE_ARN, MICROVM, startApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

const started = new Date(1789483142026);
const created = new Date(1789482600512);
const uuid = expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);

describe("the unmodified SDK client", () => {
  test("creates an image", async () => {
    const { client, calls } = await startApi();
    const input = {
      name: "demo-app",
      baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
      buildRoleArn: "arn:aws:iam::111122223333:role/build",
      codeArtifact: { uri: "s3://demo-bucket/app.zip" },
      logging: { cloudWatch: { logGroup: "/a/b" } },
      hooks: { port: 9000, microvmHooks: { run: "ENABLED" as const, runTimeoutInSeconds: 5 } },
      resources: [{ minimumMemoryInMiB: 512 }],
      environmentVariables: { GREETING: "grüße", ["__proto__"]: "x" },
      tags: { team: "a b" },
    };
    const output = await client().send(new aws.CreateMicrovmImageCommand(input));
    expect(output.$metadata.httpStatusCode).toBe(201);
    expect(output).toMatchObject({ state: "CREATING", createdAt: created, hooks: { port: 9000 } });
    expect(output.environmentVariables).toBeUndefined();
    expect(calls).toEqual([
      { name: "CreateMicrovmImage", input: { ...input, clientToken: uuid }, context: expect.anything() },
    ]);
    expect(calls[0]?.context).toMatchObject({
      requestId: output.$metadata.requestId,
      accountId: KEY.accountId,
      principalArn: KEY.principalArn,
      accessKeyId: KEY.accessKeyId,
      sourceIp: "127.0.0.1",
    });
  });

  test("gets an image", async () => {
    const { client, calls } = await startApi();
    const output = await client().send(new aws.GetMicrovmImageCommand({ imageIdentifier: IMAGE_ARN }));
    expect(output).toMatchObject({ imageArn: IMAGE_ARN, state: "CREATED", createdAt: created, tags: { team: "a" } });
    expect(output.$metadata).toMatchObject({ httpStatusCode: 200, requestId: uuid });
    expect(calls[0]).toMatchObject({ name: "GetMicrovmImage", input: { imageIdentifier: IMAGE_ARN } });
  });

  test("gets an image version", async () => {
    const { client, calls } = await startApi();
    const input = { imageIdentifier: IMAGE_ARN, imageVersion: "1.0" };
    const output = await client().send(new aws.GetMicrovmImageVersionCommand(input));
    expect(output).toMatchObject({ state: "SUCCESSFUL", status: "ACTIVE", resources: [{ minimumMemoryInMiB: 2048 }] });
    expect(output.environmentVariables?.A).toBe("1");
    expect(calls[0]).toMatchObject({ name: "GetMicrovmImageVersion", input });
  });

  test("lists builds", async () => {
    const { client, calls } = await startApi();
    const input = {
      imageIdentifier: IMAGE_ARN,
      imageVersion: "1.0",
      maxResults: 10,
      nextToken: "a+b/c= &é",
      architecture: "ARM_64" as const,
      chipset: "GRAVITON" as const,
      chipsetGeneration: "4",
    };
    const output = await client().send(new aws.ListMicrovmImageBuildsCommand(input));
    expect(output.items).toMatchObject([{ buildState: "SUCCESSFUL", createdAt: created }]);
    expect(output.nextToken).toBe("more");
    expect(calls[0]).toMatchObject({ name: "ListMicrovmImageBuilds", input });
  });

  test("gets a build", async () => {
    const { client, calls } = await startApi();
    const input = { imageIdentifier: IMAGE_ARN, imageVersion: "1.0", buildId: "7d0f0c52-5a1e-4a53-9c35-6a3cc1f2a001" };
    const output = await client().send(new aws.GetMicrovmImageBuildCommand(input));
    expect(output.snapshotBuild?.memorySnapshotSizeInBytes).toBe(609087488);
    expect(calls[0]).toMatchObject({ name: "GetMicrovmImageBuild", input });
  });

  test("runs a microvm", async () => {
    const { client, calls } = await startApi();
    const input = {
      imageIdentifier: IMAGE_ARN,
      idlePolicy: { maxIdleDurationSeconds: 300, suspendedDurationSeconds: 0, autoResumeEnabled: false },
      egressNetworkConnectors: [],
      logging: { disabled: {} },
      runHookPayload: '{"tenant":"t-17"}',
      clientToken: "mine",
    };
    const output = await client().send(new aws.RunMicrovmCommand(input));
    expect(output).toMatchObject({ microvmId: MICROVM, state: "PENDING", startedAt: started });
    expect(output.terminatedAt).toBeUndefined();
    expect(calls).toEqual([{ name: "RunMicrovm", input, context: expect.anything() }]);
  });

  test("gets a microvm", async () => {
    const { client, calls } = await startApi();
    const output = await client().send(new aws.GetMicrovmCommand({ microvmIdentifier: MICROVM }));
    expect(output).toMatchObject({
      state: "TERMINATED",
      terminatedAt: new Date(1789483420771),
      stateReason: "Success.",
    });
    expect(calls[0]).toMatchObject({ name: "GetMicrovm", input: { microvmIdentifier: MICROVM } });
  });

  test("lists microvms", async () => {
    const { client, calls } = await startApi();
    const output = await client().send(new aws.ListMicrovmsCommand({ imageIdentifier: IMAGE_ARN, maxResults: 50 }));
    expect(output.items).toEqual([expect.objectContaining({ microvmId: MICROVM, startedAt: started })]);
    expect(output.nextToken).toBeUndefined();
    expect(calls[0]?.input).toEqual({ imageIdentifier: IMAGE_ARN, maxResults: 50 });
  });

  test("suspends, resumes and terminates a microvm", async () => {
    const { client, calls } = await startApi();
    const sdk = client();
    for (const Command of [aws.SuspendMicrovmCommand, aws.ResumeMicrovmCommand, aws.TerminateMicrovmCommand]) {
      const output = await sdk.send(new Command({ microvmIdentifier: MICROVM }));
      expect(output).toEqual({ $metadata: expect.objectContaining({ httpStatusCode: 200 }) });
    }
    expect(calls.map(({ name, input }) => [name, input])).toEqual(
      ["SuspendMicrovm", "ResumeMicrovm", "TerminateMicrovm"].map((name) => [name, { microvmIdentifier: MICROVM }]),
    );
  });

  test("gets a token", async () => {
    const { client, calls } = await startApi();
    const input = {
      microvmIdentifier: MICROVM,
      expirationInMinutes: 30,
      allowedPorts: [{ port: 8080 }, { range: { startPort: 9001, endPort: 9010 } }, { allPorts: {} }],
    };
    const output = await client().send(new aws.CreateMicrovmAuthTokenCommand(input));
    expect(output.authToken).toEqual({ "X-aws-proxy-auth": "eyJraWQiOi.iv.ciphertext.tag" });
    expect(calls[0]).toMatchObject({ name: "CreateMicrovmAuthToken", input });
  });
});

describe("failures arrive as the SDK's exceptions", () => {
  const cases: [TorporError, string, number][] = [
    [new TorporError("invalid_input", "m"), "ValidationException", 400],
    [new TorporError("not_found", "m"), "ResourceNotFoundException", 404],
    [new TorporError("conflict", "m"), "ConflictException", 409],
    [new TorporError("denied", "m"), "AccessDeniedException", 403],
    [new TorporError("quota", "m"), "ServiceQuotaExceededException", 402],
    [new TorporError("throttled", "m", { retryAfterSeconds: 7 }), "ThrottlingException", 429],
    [new TorporError("capacity", "m"), "InsufficientCapacityException", 500],
  ];
  test.each(cases)("%o", async (error, name, status) => {
    const { client } = await startApi({
      operations: {
        RunMicrovm: async () => {
          throw error;
        },
      },
    });
    const failure: unknown = await client()
      .send(new aws.RunMicrovmCommand({ imageIdentifier: IMAGE_ARN }))
      .catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(Reflect.get(aws, name));
    expect(failure).toMatchObject({ name, message: "m", $metadata: { httpStatusCode: status, requestId: uuid } });
    if (error.retryAfterSeconds !== undefined) expect(failure).toMatchObject({ retryAfterSeconds: 7 });
  });

  test("in the recorded form on the wire", async () => {
    const { send } = await startApi({
      operations: {
        GetMicrovm: async () => {
          throw new TorporError("not_found", `MicroVM not found: ${MICROVM}`);
        },
        RunMicrovm: async () => {
          throw new TorporError("denied", "User: x is not authorized");
        },
      },
    });
    const missing = await send({ method: "GET", path: `/2025-09-09/microvms/${MICROVM}` });
    expect(missing.status).toBe(404);
    expect(missing.headers.get("x-amzn-errortype")).toBe("ResourceNotFoundException");
    expect(missing.headers.get("content-type")).toBe("application/json");
    expect(await missing.json()).toEqual({
      message: `MicroVM not found: ${MICROVM}`,
      resourceId: null,
      resourceType: null,
    });
    const denied = await send({ method: "POST", path: "/2025-09-09/microvms", body: '{"imageIdentifier":"x"}' });
    expect([denied.status, await denied.json()]).toEqual([403, { Message: "User: x is not authorized" }]);
  });

  test("an error that an operation does not declare becomes the nearest that it does", async () => {
    const { client } = await startApi({
      operations: {
        GetMicrovm: async () => {
          throw new TorporError("conflict", "m");
        },
        SuspendMicrovm: async () => {
          throw new TorporError("capacity", "no room");
        },
      },
    });
    const input = { microvmIdentifier: MICROVM };
    await expect(client().send(new aws.GetMicrovmCommand(input))).rejects.toBeInstanceOf(aws.ValidationException);
    const failure = client().send(new aws.SuspendMicrovmCommand(input));
    await expect(failure).rejects.toMatchObject({ name: "InternalServerException", message: "no room" });
  });

  test("what nobody foresaw is hidden from the client and whole in the log", async () => {
    const logged: unknown[] = [];
    const log = { debug: () => {}, error: (...args: unknown[]) => logged.push(args) };
    const { client } = await startApi({
      log: Object.assign(Object.create(null), log),
      operations: {
        GetMicrovm: async () => {
          throw new Error("SELECT failed at /var/lib/secret");
        },
        SuspendMicrovm: async () => {
          throw new TorporError("internal", "invariant I3 broken");
        },
      },
    });
    const sdk = client();
    const failure: unknown = await sdk
      .send(new aws.GetMicrovmCommand({ microvmIdentifier: MICROVM }))
      .catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(aws.InternalServerException);
    expect(String(failure)).not.toContain("secret");
    const broken = sdk.send(new aws.SuspendMicrovmCommand({ microvmIdentifier: MICROVM }));
    await expect(broken).rejects.toThrow(/^The service failed/);
    expect(logged).toEqual([
      [
        {
          err: expect.objectContaining({ message: "SELECT failed at /var/lib/secret" }),
          requestId: uuid,
          operation: "GetMicrovm",
        },
        "api request failed",
      ],
      [
        {
          err: expect.objectContaining({ message: "invariant I3 broken" }),
          requestId: uuid,
          operation: "SuspendMicrovm",
        },
        "api request failed",
      ],
    ]);
  });
});

test("an operation learns that its client has gone away", async () => {
  const { promise: entered, resolve: enter } = Promise.withResolvers<AbortSignal>();
  const { client } = await startApi({
    operations: {
      GetMicrovm: async (_input, { signal }) => {
        enter(signal);
        const { promise, reject } = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => reject(signal.reason));
        return await promise;
      },
    },
  });
  const leaving = new AbortController();
  const call = client().send(new aws.GetMicrovmCommand({ microvmIdentifier: MICROVM }), {
    abortSignal: leaving.signal,
  });
  const signal = await entered;
  const gone = new Promise((resolve) => signal.addEventListener("abort", resolve));
  leaving.abort();
  await expect(call).rejects.toThrow();
  await gone;
  expect(String(signal.reason)).toContain("went away");
});
