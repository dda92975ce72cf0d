import type { OperationInput } from "@torpor/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { ACCOUNT, context, World } from "../testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await World.create();
});

type Create = OperationInput<"CreateNetworkConnector">;
const EGRESS = {
  SubnetIds: ["subnet-1", "subnet-2"],
  SecurityGroupIds: ["sg-1"],
  NetworkProtocol: "IPv4",
  AssociatedComputeResourceTypes: ["MicroVm"],
} as const;
const ROLE = "arn:aws:iam::000000000000:role/connect";
let tokens = 0;
const request = (Name: string, more: Partial<Create> = {}): Create => ({
  Name,
  Configuration: { VpcEgressConfiguration: EGRESS },
  OperatorRole: ROLE,
  ClientToken: `token-${tokens++}`,
  ...more,
});
const create = (Name: string, more: Partial<Create> = {}) =>
  world.operations.CreateNetworkConnector(request(Name, more), context());
const get = (Identifier: string, who = context()) => world.operations.GetNetworkConnector({ Identifier }, who);

describe("a connector", () => {
  test("is PENDING at the answer and ACTIVE soon after, found by id, name and ARN", async () => {
    const made = await create("egress", { Tags: { team: "a" } });
    expect(made).toEqual({
      Arn: `arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:${made.Id}`,
      Name: "egress",
      Id: expect.stringMatching(/^nc-[0-9a-f-]{36}$/),
      Configuration: { VpcEgressConfiguration: EGRESS },
      OperatorRole: ROLE,
      State: "PENDING",
    });
    await world.settled();
    for (const identifier of [made.Id, made.Name, made.Arn])
      expect(await get(identifier)).toMatchObject({
        ...made,
        State: "ACTIVE",
        StateReason: "Initial creation",
        LastModified: new Date(world.clock.now()),
      });
    expect((await world.operations.ListTags({ Resource: made.Arn }, context())).Tags).toEqual({ team: "a" });
  });

  test("is ACTIVE or gone also when the server dies meanwhile, wherever it strikes", async () => {
    for (let boundary = 0; boundary < 8; boundary++) {
      const name = `c${boundary}`;
      world.crashAfter(boundary);
      const acts = async (): Promise<void> => {
        await create(name);
        await world.operations.DeleteNetworkConnector({ Identifier: name }, context());
      };
      await Promise.race([acts(), world.crashed]);
      await world.settled();
      if (world.dead) await world.crash();
      world.crashAfter(undefined);
      await world.settled();
      const { NetworkConnectors } = await world.operations.ListNetworkConnectors({}, context());
      for (const { State } of NetworkConnectors) expect(State).toBe("ACTIVE");
    }
    expect(world.crashes).toBeGreaterThan(3);
  });

  test("takes a new configuration, and says when nothing has changed", async () => {
    const { Id: Identifier } = await create("egress");
    await world.settled();
    const same = await world.operations.UpdateNetworkConnector(
      { Identifier, Configuration: { VpcEgressConfiguration: EGRESS }, ClientToken: "u1" },
      context(),
    );
    expect(same).toMatchObject({
      LastUpdateStatus: "Successful",
      LastUpdateStatusReason: "No configuration changes detected",
    });
    const SubnetIds = ["subnet-9"];
    const changed = await world.operations.UpdateNetworkConnector(
      { Identifier, Configuration: { VpcEgressConfiguration: { ...EGRESS, SubnetIds } }, ClientToken: "u2" },
      context(),
    );
    expect(changed).toMatchObject({ LastUpdateStatus: "InProgress" });
    await world.settled();
    const found = await get(Identifier);
    expect(found.Configuration?.VpcEgressConfiguration?.SubnetIds).toEqual(SubnetIds);
    expect(found.LastUpdateStatus).toBe("Successful");
    expect(found.StateReason).toBeUndefined();
  });

  test("is gone soon after its deletion, and its name is free again", async () => {
    const made = await create("egress");
    await world.settled();
    const gone = await world.operations.DeleteNetworkConnector({ Identifier: made.Name }, context());
    expect(gone.State).toBe("DELETING");
    await world.settled();
    await expect(get(made.Id)).rejects.toMatchObject({
      kind: "not_found",
      message: `Network connector not found for: ${made.Arn}`,
    });
    await create("egress");
  });

  test("of a client token is made once; another request under it is refused", async () => {
    const again = request("egress", { ClientToken: "same" });
    const first = await world.operations.CreateNetworkConnector(again, context());
    expect(await world.operations.CreateNetworkConnector(again, context())).toEqual(first);
    await expect(world.operations.CreateNetworkConnector({ ...again, Name: "other" }, context())).rejects.toMatchObject(
      { kind: "conflict" },
    );
  });

  test("is nobody else's", async () => {
    const made = await create("egress");
    const other = context("999999999999");
    await expect(get(made.Arn, other)).rejects.toMatchObject({ kind: "denied" });
    for (const identifier of [made.Id, made.Name])
      await expect(get(identifier, other)).rejects.toMatchObject({ kind: "not_found" });
    expect((await world.operations.ListNetworkConnectors({}, other)).NetworkConnectors).toEqual([]);
  });
});

describe("refuses", () => {
  test.each([
    ["no client token", { ClientToken: null }, "ClientToken is a required field"],
    ["no role", { OperatorRole: null }, "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type"],
    [
      "no protocol",
      { Configuration: { VpcEgressConfiguration: { ...EGRESS, NetworkProtocol: null } } },
      "NetworkProtocol cannot be null or empty",
    ],
    [
      "no subnets",
      { Configuration: { VpcEgressConfiguration: { ...EGRESS, SubnetIds: null } } },
      "SubnetIds cannot be null or empty",
    ],
    ["a tag of AWS's own", { Tags: { "aws:x": "y" } }, "The tag key aws:x begins with aws:"],
    ["an ARN for a name", { Name: `arn:aws:lambda:us-east-1:${ACCOUNT}:network-connector:x` }, "Name must be a name"],
  ])("%s", async (_, more, message) => {
    const refused = create("egress", more as Partial<Create>);
    await expect(refused).rejects.toMatchObject({ kind: "invalid_parameter" });
    await expect(refused).rejects.toThrow(message);
    expect((await world.operations.ListNetworkConnectors({}, context())).NetworkConnectors).toEqual([]);
  });

  test("a name that is taken", async () => {
    await create("egress");
    await expect(create("egress")).rejects.toMatchObject({ kind: "conflict" });
  });
});

test("lists are whole and without repetition while connectors come and go", async () => {
  const made: string[] = [];
  for (let n = 0; n < 120; n++) {
    made.push((await create(`c${n}`)).Id);
    if (n % 7 === 0) await world.clock.advance(1);
  }
  await world.settled();
  const seen: string[] = [];
  let Marker: string | null | undefined;
  do {
    const page = await world.operations.ListNetworkConnectors({ MaxItems: 100, Marker, State: "ACTIVE" }, context());
    expect(page.NetworkConnectors.length).toBeLessThanOrEqual(50);
    seen.push(...page.NetworkConnectors.map(({ Id }) => Id));
    Marker = page.NextMarker;
    if (seen.length === 50) {
      await world.operations.DeleteNetworkConnector({ Identifier: seen[0]! }, context());
      await world.settled();
      await create("late");
      await world.settled();
    }
  } while (Marker);
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.toSorted()).toEqual(made.toSorted());
  await expect(world.operations.ListNetworkConnectors({ Marker: "nonsense" }, context())).rejects.toMatchObject({
    kind: "invalid_input",
  });
});
