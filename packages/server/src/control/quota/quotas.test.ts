import { QUOTA_NAMES, type QuotaName } from "@torpor/protocol";
import { describe, expect, test } from "vitest";
import { loadConfig } from "../../config.ts";
import { ACCOUNT, context, World, type WorldOptions } from "../testing/world.ts";

const OTHER = "999999999999";

async function listed(world: World, account = ACCOUNT): Promise<Map<QuotaName, string>> {
  const { items } = await world.control.extensions.quotas.list(context(account), undefined);
  return new Map(items.map(({ name, value, source }) => [name, `${value} ${source}`]));
}
const fresh = async (options: WorldOptions = {}) => await listed(await World.create(options));

describe("a quota", () => {
  test("is the preset's: generous for oneself, AWS's on demand", async () => {
    const self = await fresh();
    expect([...self.keys()]).toEqual(QUOTA_NAMES);
    expect(self.get("allocated-memory-mib")).toBe("null default");
    const aws = await fresh({ quotaPreset: "aws" });
    const expected: [QuotaName, number | null][] = [
      ["allocated-memory-mib", 1_048_576], // the region of these tests is one of the large ones
      ["running-microvms", null],
      ["images", 100],
      ["versions-per-image", 50],
      ["concurrent-builds", 10],
      ["maximum-duration-seconds", 28_800],
      ["RunMicrovm.rate", 5],
      ["SuspendMicrovm.burst", 2],
      ["GetMicrovm.rate", 100],
    ];
    for (const [name, value] of expected) expect([name, aws.get(name)]).toEqual([name, `${value} default`]);
    for (const name of QUOTA_NAMES) {
      const [own = "", theirs = ""] = [self.get(name), aws.get(name)].map((text) => text?.split(" ")[0]);
      expect(Number(own.replace("null", "Infinity")), name).toBeGreaterThanOrEqual(
        Number(theirs.replace("null", "Infinity")),
      );
    }
  });

  test("is the settings' where they say so, and the account's own above all", async () => {
    const world = await World.create({ quotaPreset: "aws", quotas: "images=7,RunMicrovm.rate=9" });
    const { quotas } = world.control.extensions;
    await quotas.set(context(), OTHER, "images", 3);
    await quotas.set(context(), OTHER, "allocated-memory-mib", null);
    const mine = await listed(world);
    const theirs = await listed(world, OTHER);
    expect([mine.get("images"), mine.get("RunMicrovm.rate"), mine.get("allocated-memory-mib")]).toEqual([
      "7 config",
      "9 config",
      "1048576 default",
    ]);
    expect([theirs.get("images"), theirs.get("RunMicrovm.rate"), theirs.get("allocated-memory-mib")]).toEqual([
      "3 account",
      "9 config",
      "null account",
    ]);
    await world.restart();
    expect(await listed(world, OTHER)).toEqual(theirs);
    await world.control.extensions.quotas.reset(context(), OTHER, "images");
    await world.control.extensions.quotas.reset(context(), OTHER, "images");
    expect((await listed(world, OTHER)).get("images")).toBe("7 config");
    await world.restart();
    expect((await listed(world, OTHER)).get("images")).toBe("7 config");
  });

  test("is seen by its account, and by the operator; only the operator sets it", async () => {
    const world = await World.create();
    const { quotas } = world.control.extensions;
    expect((await quotas.list(context(), OTHER)).accountId).toBe(OTHER);
    for (const call of [
      quotas.list(context(OTHER), ACCOUNT),
      quotas.set(context(OTHER), OTHER, "images", 9),
      quotas.reset(context(OTHER), OTHER, "images"),
      quotas.set(context(OTHER), ACCOUNT, "images", 9),
    ])
      await expect(call).rejects.toMatchObject({ kind: "denied", message: expect.stringContaining("not authorized") });
    await expect(quotas.set(context(), OTHER, "unauthenticated.rate", 9)).rejects.toMatchObject({
      kind: "invalid_input",
    });
    expect((await listed(world, OTHER)).get("images")).toBe("1000 default");
  });
});

describe("rates", () => {
  test("are the operation's, or those of all others, each counted by itself; a fork is a launch", async () => {
    const world = await World.create({ quotas: "RunMicrovm.rate=3,RunMicrovm.burst=4,other-operations.rate=8" });
    const { rates } = world.control;
    const run = { perSecond: 3, burst: 4, bucket: "RunMicrovm" };
    expect(rates.operation(ACCOUNT, "RunMicrovm")).toEqual(run);
    expect(rates.operation(ACCOUNT, "ForkMicrovm")).toEqual(run);
    expect(rates.operation(ACCOUNT, "ForkCheckpoint")).toEqual(run);
    for (const operation of ["ListMicrovms", "GetHost", "unauthenticated", "__proto__", ""])
      expect(rates.operation(ACCOUNT, operation)).toEqual({ perSecond: 8, burst: 2000, bucket: operation });
    expect(rates.stranger()).toEqual({ perSecond: 50, burst: 500 });
    await world.control.extensions.quotas.set(context(), OTHER, "RunMicrovm.rate", null);
    expect(rates.operation(OTHER, "RunMicrovm").perSecond).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("the setting quotas", () => {
  const load = (quotas: unknown) => loadConfig({ env: {}, flags: { quotas }, file: "/dev/null" }).config.quotas;

  test("takes names and values, and unlimited", () => {
    const text = "images=200, allocated-memory-mib = unlimited,RunMicrovm.burst=7,";
    expect(load(text)).toBe(text);
    expect(load("")).toBe("");
  });

  test.each([
    ["images", "expected NAME=VALUE"],
    ["images=1=2", "expected NAME=VALUE"],
    ["pictures=1", 'there is no quota "pictures"'],
    ["toString=1", 'there is no quota "toString"'],
    ["images=-1", "from 0 to 1099511627776, or unlimited"],
    ["images=1e3", "from 0"],
    ["images=1,images=2", "images is given twice"],
    ["auth-token-minutes=unlimited", "from 1 to 1440"],
    ["maximum-duration-seconds=31622401", "from 1 to 31622400"],
    ["RunMicrovm.rate=0", "from 1 to 1000000, or unlimited"],
    [7, "expected a text"],
  ])("refuses %o", (text, message) => {
    expect(() => load(text)).toThrow(message);
  });
});
