import type { Quota, QuotaName } from "@torpor/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { HostError } from "../../host/host-client.ts";
import { ACCOUNT, BASE_IMAGE, context, imageArn, World } from "../testing/world.ts";

const OTHER = "999999999999";
const OVER_MEMORY = {
  kind: "quota",
  message: "The base maximum allocated memory limit has been reached for this account.",
};
const at = (microvmIdentifier: string) => ({ microvmIdentifier });

async function quota(world: World, name: QuotaName, account = ACCOUNT): Promise<Quota | undefined> {
  const { items } = await world.control.extensions.quotas.list(context(account), undefined);
  return items.find((item) => item.name === name);
}
const used = async (world: World, name: QuotaName, account = ACCOUNT) => (await quota(world, name, account))?.used;
const outcomes = async (calls: readonly Promise<unknown>[]) => {
  const settled = await Promise.allSettled(calls);
  return {
    done: settled.filter(({ status }) => status === "fulfilled").length,
    refused: settled.filter((each) => each.status === "rejected").map(({ reason }): unknown => reason),
  };
};
const times = <T>(count: number, call: () => Promise<T>): Promise<T>[] => Array.from({ length: count }, call);

describe("allocated memory", () => {
  let world: World;
  let image: string;
  beforeEach(async () => {
    world = await World.create({ quotas: "allocated-memory-mib=20480" });
    image = await world.image("demo");
  });
  const run = () => world.operations.RunMicrovm({ imageIdentifier: image }, context());

  test("of fifty launches at once exactly those that there is memory for begin", async () => {
    const { done, refused } = await outcomes(times(50, run));
    expect(done).toBe(10);
    expect(refused).toHaveLength(40);
    for (const err of refused) expect(err).toMatchObject(OVER_MEMORY);
    await world.settled();
    expect([world.machine.instances.size, await used(world, "allocated-memory-mib")]).toEqual([10, 20_480]);
  });

  test("one that ends makes room for exactly one, however many want it at that moment", async () => {
    const [first] = await Promise.all(times(10, run));
    await world.settled();
    const held = world.hold("terminate:done");
    await world.operations.TerminateMicrovm(at(first?.microvmId ?? ""), context());
    await held.reached;
    await expect(run()).rejects.toMatchObject(OVER_MEMORY); // until nothing of it is left
    held.release();
    await world.settled();
    expect((await outcomes(times(5, run))).done).toBe(1);
  });

  test("is the image's, not a number of microvms", async () => {
    const large = await world.image("large", { resources: [{ minimumMemoryInMiB: 8192 }] });
    const small = await world.image("small", { resources: [{ minimumMemoryInMiB: 512 }] });
    const runs = (arn: string, count: number) =>
      outcomes(times(count, () => world.operations.RunMicrovm({ imageIdentifier: arn }, context())));
    expect((await runs(large, 5)).done).toBe(2);
    expect((await runs(small, 10)).done).toBe(8);
  });

  test("is held by what sleeps, and waking takes none", async () => {
    const microvms = await Promise.all(times(10, run));
    await world.settled();
    for (const { microvmId } of microvms) await world.operations.SuspendMicrovm(at(microvmId), context());
    await world.settled();
    expect([await used(world, "allocated-memory-mib"), await used(world, "running-microvms")]).toEqual([20_480, 0]);
    await expect(run()).rejects.toMatchObject(OVER_MEMORY);
    await world.control.extensions.quotas.set(context(), ACCOUNT, "allocated-memory-mib", 1);
    await world.operations.ResumeMicrovm(at(microvms[0]?.microvmId ?? ""), context());
    await world.settled();
    expect(await used(world, "running-microvms")).toBe(1);
  });

  test("is known after a restart, and after a crash amid launches", async () => {
    await Promise.all(times(4, run));
    await world.settled();
    await world.restart();
    expect(await used(world, "allocated-memory-mib")).toBe(8192);
    for (const boundary of [3, 6, 9, 14]) {
      world.crashAfter(boundary);
      const calls = times(3, run);
      for (const call of calls) call.catch(() => {});
      await world.crashed;
      await world.crash();
      await world.settled();
    }
    const { items } = await world.operations.ListMicrovms({}, context());
    const live = items.filter(({ state }) => state !== "TERMINATED").length;
    expect(await used(world, "allocated-memory-mib")).toBe(live * 2048);
    expect((await outcomes(times(50, run))).done).toBe(10 - live);
  });

  test("is given back by a launch that fails, and not taken by one that cannot be written", async () => {
    world.machine.failNext("launch", new HostError("internal", "broken"));
    await Promise.all(times(10, run));
    await world.settled();
    expect(await used(world, "allocated-memory-mib")).toBe(9 * 2048);
    world.storeFailure = new Error("the disk is full");
    await expect(run()).rejects.toThrow("the disk is full");
    world.storeFailure = undefined;
    expect((await outcomes(times(3, run))).done).toBe(1);
  });

  test("is taken once by requests under one client token", async () => {
    const calls = times(30, () =>
      world.operations.RunMicrovm({ imageIdentifier: image, clientToken: "one" }, context()),
    );
    expect((await outcomes(calls)).done).toBe(30);
    expect(await used(world, "allocated-memory-mib")).toBe(2048);
  });

  test("is taken by all of a fork or by none, as its origin has it", async () => {
    const { microvmId } = await run();
    await world.settled();
    const { checkpoints } = world.control.extensions;
    const fork = (count: number) => checkpoints.forkMicrovm(context(), microvmId, { count });
    await expect(fork(10)).rejects.toMatchObject(OVER_MEMORY);
    await world.settled();
    expect(world.machine.calls).toEqual([`launch ${microvmId}`]);
    expect((await fork(9)).items).toHaveLength(9);
    await expect(fork(1)).rejects.toMatchObject(OVER_MEMORY);
  });

  test("of forks and launches at once is never more than there is", async () => {
    const { microvmId } = await run();
    await world.settled();
    const made = await world.control.extensions.checkpoints.create(context(), microvmId, null);
    const forks = times(6, () =>
      world.control.extensions.checkpoints.forkCheckpoint(context(), made.checkpointId, { count: 4 }),
    );
    const launched = await outcomes(times(6, run));
    const forked = await outcomes(forks);
    await world.settled();
    const taken = 1 + launched.done + 4 * forked.done;
    expect(taken).toBeLessThanOrEqual(10);
    expect([taken * 2048, world.machine.instances.size]).toEqual([await used(world, "allocated-memory-mib"), taken]);
  });
});

test("an account's running microvms are bounded beside the host's, sleeping ones not counted", async () => {
  const world = await World.create({ quotas: "running-microvms=3", maxMicrovms: 5 });
  const image = await world.image("demo");
  const run = () => world.operations.RunMicrovm({ imageIdentifier: image }, context());
  const [first] = await Promise.all(times(3, run));
  const { refused } = await outcomes(times(20, run));
  expect(refused).toHaveLength(20);
  for (const err of refused)
    expect(err).toMatchObject({ kind: "quota", message: expect.stringContaining("may have 3 MicroVMs") });
  await world.settled();
  const sleeper = at(first?.microvmId ?? "");
  await world.operations.SuspendMicrovm(sleeper, context());
  await world.settled();
  const race = await outcomes([...times(10, run), world.operations.ResumeMicrovm(sleeper, context())]);
  expect(race.done).toBe(1);
  await world.settled();
  expect(await used(world, "running-microvms")).toBe(3);
  await world.control.extensions.quotas.set(context(), ACCOUNT, "running-microvms", null);
  expect((await outcomes(times(10, run))).refused[0]).toMatchObject({ kind: "capacity" });
});

describe("images", () => {
  const request = (name: string) => ({
    name,
    baseImageArn: BASE_IMAGE,
    buildRoleArn: `arn:aws:iam::${ACCOUNT}:role/build`,
    codeArtifact: { uri: "s3://bucket/app.zip" },
  });

  test("of fifty at once exactly as many are made as the account may have, and none is half made", async () => {
    const world = await World.create({ quotas: "images=7" });
    let n = 0;
    const { done, refused } = await outcomes(times(50, () => world.image(`image-${n++}`)));
    expect([done, refused.length]).toEqual([7, 43]);
    for (const err of refused) expect(err).toMatchObject({ kind: "quota", message: expect.stringContaining("7") });
    await world.settled();
    expect([await used(world, "images"), world.machine.builds.length]).toEqual([7, 7]);
    // A name that is taken is told as that, and another account has a quota of its own.
    const [taken] = (await world.operations.ListMicrovmImages({}, context())).items;
    await expect(world.image(taken?.name ?? "")).rejects.toMatchObject({ kind: "invalid_input" });
    await world.operations.CreateMicrovmImage(request("demo"), context(OTHER));
    expect([await used(world, "images", OTHER), await used(world, "images")]).toEqual([1, 7]);
  });

  test("one that was refused can be made under the same token when there is room", async () => {
    const world = await World.create({ quotas: "images=1" });
    const first = await world.image("first");
    const second = { ...request("second"), clientToken: "t" };
    await expect(world.operations.CreateMicrovmImage(second, context())).rejects.toMatchObject({ kind: "quota" });
    await world.operations.DeleteMicrovmImage({ imageIdentifier: first }, context());
    await world.settled();
    expect((await world.operations.CreateMicrovmImage(second, context())).name).toBe("second");
  });

  test("an image has no more versions than it may, deleted ones not counted", async () => {
    const world = await World.create({ quotas: "versions-per-image=2" });
    const arn = await world.image("demo");
    const { name: _, ...rest } = request("demo");
    const update = async () => {
      const answer = await world.operations.UpdateMicrovmImage({ ...rest, imageIdentifier: arn }, context());
      await world.settled();
      return answer.imageVersion;
    };
    expect(await update()).toBe("2.0");
    await expect(update()).rejects.toMatchObject({ kind: "quota", message: expect.stringContaining("2 versions") });
    expect((await world.operations.GetMicrovmImage({ imageIdentifier: arn }, context())).state).toBe("UPDATED");
    await world.operations.DeleteMicrovmImageVersion({ imageIdentifier: arn, imageVersion: "1.0" }, context());
    await world.settled();
    expect(await update()).toBe("3.0");
    expect(await used(world, "versions-per-image")).toBe(2);
  });

  test("builds that go on or wait are as many as the account may have, over crashes too", async () => {
    const world = await World.create({ quotas: "concurrent-builds=4" });
    const held = world.hold("buildTemplate:half");
    let n = 0;
    const create = () => world.operations.CreateMicrovmImage(request(`image-${n++}`), context());
    const { done, refused } = await outcomes(times(50, create));
    expect(done).toBe(4);
    for (const err of refused)
      expect(err).toMatchObject({
        kind: "quota",
        message: expect.stringContaining("maximum number of concurrent builds"),
      });
    await held.reached;
    expect(await used(world, "concurrent-builds")).toBe(4);
    const again = world.crash();
    held.release();
    await again;
    await world.settled();
    expect(await used(world, "concurrent-builds")).toBe(0);
    expect((await outcomes(times(50, create))).done).toBe(4);
    expect(await world.store.images.find(imageArn("image-20"))).toBeUndefined();
  });

  test("have as many tags as the account's quota says", async () => {
    const world = await World.create({ quotas: "tags-per-resource=1" });
    await world.image("one", { tags: { a: "1" } });
    await expect(world.image("two", { tags: { a: "1", b: "2" } })).rejects.toMatchObject({
      kind: "invalid_parameter",
      message: expect.stringContaining("at most 1 tags"),
    });
    const Resource = imageArn("one");
    await world.operations.TagResource({ Resource, Tags: { a: "2" } }, context());
    await expect(world.operations.TagResource({ Resource, Tags: { b: "2" } }, context())).rejects.toThrow("at most 1");
  });
});

test("of fifty network connectors at once exactly as many are made as the account may have", async () => {
  const world = await World.create({ quotas: "network-connectors=3" });
  const VpcEgressConfiguration = {
    SubnetIds: ["subnet-1"],
    NetworkProtocol: "IPv4",
    AssociatedComputeResourceTypes: ["MicroVm"],
  } as const;
  let n = 0;
  const create = () => {
    const Name = `connector-${n++}`;
    const OperatorRole = `arn:aws:iam::${ACCOUNT}:role/connect`;
    return world.operations.CreateNetworkConnector(
      { Name, OperatorRole, Configuration: { VpcEgressConfiguration }, ClientToken: Name },
      context(),
    );
  };
  const { done, refused } = await outcomes(times(50, create));
  expect([done, refused.length, await used(world, "network-connectors")]).toEqual([3, 47, 3]);
  for (const err of refused) expect(err).toMatchObject({ kind: "quota" });
  const { NetworkConnectors } = await world.operations.ListNetworkConnectors({}, context());
  await world.operations.DeleteNetworkConnector({ Identifier: NetworkConnectors?.[0]?.Name ?? "" }, context());
  await world.settled();
  expect((await outcomes(times(5, create))).done).toBe(1);
});

test("durations and tokens are no longer than the account's quotas say", async () => {
  const world = await World.create({ quotas: "maximum-duration-seconds=600, auth-token-minutes=90" });
  const imageIdentifier = await world.image("demo");
  const run = (input: object) => world.operations.RunMicrovm({ imageIdentifier, ...input }, context());
  expect((await run({})).maximumDurationInSeconds).toBe(600);
  expect((await run({ maximumDurationInSeconds: 600 })).maximumDurationInSeconds).toBe(600);
  await expect(run({ maximumDurationInSeconds: 601 })).rejects.toMatchObject({
    kind: "invalid_input",
    message: "The maximumDurationInSeconds 601 exceeds the 600 that the account's quota allows.",
  });
  const id = await world.running(imageIdentifier);
  const token = (expirationInMinutes: number) =>
    world.operations.CreateMicrovmAuthToken(
      { microvmIdentifier: id, expirationInMinutes, allowedPorts: [{ port: 80 }] },
      context(),
    );
  expect(await token(90)).toHaveProperty("authToken");
  await expect(token(91)).rejects.toThrow("ExpirationMinutes 91 exceeded max allowed of 90.");
  const shell = { microvmIdentifier: id, expirationInMinutes: 91 };
  await expect(world.operations.CreateMicrovmShellAuthToken(shell, context())).rejects.toThrow("allowed of 90.");
  // A fork that says nothing lives as long as its origin, or as may be by now.
  await world.control.extensions.quotas.set(context(), ACCOUNT, "maximum-duration-seconds", 60);
  const { checkpoints } = world.control.extensions;
  const [fork] = (await checkpoints.forkMicrovm(context(), id, {})).items;
  const forked = await world.operations.GetMicrovm(at(fork?.microvmId ?? ""), context());
  expect(forked.maximumDurationInSeconds).toBe(60);
  await expect(checkpoints.forkMicrovm(context(), id, { maximumDurationInSeconds: 61 })).rejects.toThrow("61");
});
