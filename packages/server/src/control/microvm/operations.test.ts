import { beforeEach, describe, expect, test } from "vitest";
import { DamagedError, HostError } from "../../host/host-client.ts";
import { ACCOUNT, connectorArn, context, World } from "../testing/world.ts";

const unknownId = "microvm-00000000-0000-3000-8000-000000000000";
let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo");
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

describe("a shell token", () => {
  const shell = (microvmIdentifier: string, expirationInMinutes = 60) =>
    world.operations.CreateMicrovmShellAuthToken({ microvmIdentifier, expirationInMinutes }, context());

  test("is for the shell alone, of a microvm that was started with one", async () => {
    for (const name of ["SHELL_INGRESS", "ALL_INGRESS"] as const) {
      const id = await world.running(image, { ingressNetworkConnectors: [connectorArn(name)] });
      expect(await shell(id)).toEqual({ authToken: { "X-aws-proxy-auth": expect.any(String) } });
      expect(world.minted.at(-1)).toEqual({
        microvmId: id,
        kind: "shell",
        ports: [],
        expiresAt: new Date(world.clock.now() + 3_600_000),
      });
    }
  });

  test("is refused without the connector, for too long, for what has ended, and to others", async () => {
    const without = await world.running(image);
    await expect(shell(without)).rejects.toMatchObject({
      kind: "invalid_input",
      message: "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.",
    });
    await expect(shell(without, 61)).rejects.toThrow("ExpirationMinutes 61 exceeded max allowed of 60.");
    await world.operations.TerminateMicrovm({ microvmIdentifier: without }, context());
    await expect(shell(without)).rejects.toThrow(/has been terminated/);
    await expect(shell("microvm-nothing")).rejects.toMatchObject({ kind: "not_found" });
    expect(world.minted.filter(({ kind }) => kind === "shell")).toEqual([]);
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

  test("a resume that meets a damaged file says which one, and what can be gone back to", async () => {
    const id = await world.running(image);
    const at = { microvmIdentifier: id };
    const { checkpoints } = world.control.extensions;
    const made: string[] = [];
    for (const name of ["a", "b", "c", "d", "e"]) {
      made.push((await checkpoints.create(context(), id, name)).checkpointId);
      await world.clock.advance(1000);
    }
    await world.operations.SuspendMicrovm(at, context());
    await world.settled();
    const damage = { file: "disk-2.qcow2", what: "is missing" };
    const refused = async (earlier?: string): Promise<string> => {
      world.machine.failNext("resume", new DamagedError("restore point", damage, "the restore point of T2", earlier));
      const err: unknown = await world.operations.ResumeMicrovm(at, context()).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(err).toMatchObject({ kind: "conflict" });
      expect(await world.state(id)).toBe("SUSPENDED");
      return (err as Error).message;
    };
    world.machine.failNext("resume", new DamagedError("template", damage, "template T"));
    await expect(world.operations.ResumeMicrovm(at, context())).rejects.toThrow(
      /disk-2\.qcow2 of template T is missing\. It is still suspended\. .*build the image again/,
    );
    const begin = `The MicroVM ${id} cannot be resumed: disk-2.qcow2 of the restore point of T2 is missing. It is still suspended.`;
    expect(await refused()).toBe(
      `${begin} There is no earlier restore point and no checkpoint of it that is whole. Put the file back from a backup, or terminate it.`,
    );
    for (const [checkpointId, facts] of world.machine.checkpoints)
      world.machine.checkpoints.set(checkpointId, {
        ...facts,
        restorePoint:
          checkpointId === made[4]
            ? { state: "damaged", checkedAt: "now", damage: "devices is missing" }
            : { state: "verified", checkedAt: "now", damage: null },
      });
    const offered = await refused("T1");
    expect(offered).toContain(`${begin} Its restore point of T1 is still there: make it a checkpoint`);
    expect(offered).toContain(`torpor checkpoint create ${id} --previous`);
    for (const [n, checkpointId] of made.entries()) expect(offered.includes(checkpointId)).toBe(n > 0 && n < 4);
    expect(offered).toContain("verified) and older ones: torpor rollback");
  });

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
