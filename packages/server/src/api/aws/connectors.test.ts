import { describe, expect, test } from "vitest";
import { context, World } from "../../control/testing/world.ts";
import { startApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

/**
 * The API and the control plane; only the host is a fake. There is no JavaScript client for Lambda Core: requests are
 * written by hand and signed with the SDK's signer.
 */

const LIST = "/2026-04-04/network-connectors";
const ACCOUNT = `arn:aws:lambda:us-east-1:${KEY.accountId}`;
const VPC = { SubnetIds: ["subnet-0aa"], SecurityGroupIds: ["sg-0bb"], NetworkProtocol: "IPv4" };
const REQUEST = {
  Name: "to-vpc",
  OperatorRole: `arn:aws:iam::${KEY.accountId}:role/connector`,
  ClientToken: "t",
  Configuration: { VpcEgressConfiguration: { ...VPC, AssociatedComputeResourceTypes: ["MicroVm"] } },
};
const OTHER_REQUEST = [
  409,
  "ResourceConflictException",
  { message: "The clientToken was already used for a request with different parameters." },
];

type Answer = Record<string, unknown>;
type Ask = (method: string, at?: string, body?: object, query?: Record<string, string>) => Promise<[number, Answer]>;

async function start(): Promise<{
  world: World;
  ask: Ask;
  refused: (...request: Parameters<Ask>) => Promise<unknown[]>;
}> {
  const world = await World.create();
  const api = await startApi({ operations: newest(world) });
  const send = (...[method, at = "", body, query = {}]: Parameters<Ask>): Promise<Response> => {
    const path = at === "" ? LIST : `${LIST}/${encodeURIComponent(at)}`;
    return api.send({ method, path, query, ...(body && { body: JSON.stringify(body) }) });
  };
  return {
    world,
    async ask(...request) {
      const answer = await send(...request);
      expect(answer.headers.get("content-type")).toBe("application/json");
      return [answer.status, Object(await answer.json())];
    },
    async refused(...request) {
      const answer = await send(...request);
      return [answer.status, answer.headers.get("x-amzn-errortype"), await answer.json()];
    },
  };
}

/** Those of the server that runs when one is called. */
const newest = (world: World): World["operations"] =>
  Object.assign(
    {},
    ...Object.keys(world.operations).map((name) => ({
      [name]: (...call: unknown[]) => Reflect.get(world.operations, name)(...call),
    })),
  );

test("a connector from its making to its end", async () => {
  const { world, ask } = await start();
  const held = world.hold("store.networkConnectors.settle:before");
  const [status, made] = await ask("POST", "", { ...REQUEST, Tags: { team: "a" } });
  const { Id } = made;
  expect([status, made]).toEqual([
    202,
    {
      Arn: `${ACCOUNT}:network-connector:${Id}`,
      Name: "to-vpc",
      Id: expect.stringMatching(/^nc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
      Configuration: REQUEST.Configuration,
      OperatorRole: REQUEST.OperatorRole,
      State: "PENDING",
    },
  ]);
  await held.reached;
  const LastModified = new Date(world.clock.now()).toISOString();
  const details = { ...made, Version: 1, StateReason: "Initial creation", LastModified };
  for (const name of ["to-vpc", String(Id), String(made.Arn)])
    expect(await ask("GET", name)).toEqual([200, { ...details, State: "PENDING" }]);
  const item = { Arn: made.Arn, Name: "to-vpc", Id, Type: "VPC_EGRESS", LastModified };
  expect(await ask("GET")).toEqual([200, { NetworkConnectors: [{ ...item, State: "PENDING" }] }]);
  held.release();
  await world.settled();
  expect(await ask("GET", "to-vpc")).toEqual([200, { ...details, Version: expect.any(Number), State: "ACTIVE" }]);
  expect(await ask("GET", "", undefined, { State: "ACTIVE" })).toEqual([
    200,
    { NetworkConnectors: [{ ...item, State: "ACTIVE" }] },
  ]);
  expect(await ask("GET", "", undefined, { State: "PENDING" })).toEqual([200, { NetworkConnectors: [] }]);

  const goes = world.hold("store.networkConnectors.settle:before");
  const gone = await ask("DELETE", String(Id));
  expect(gone).toEqual([202, { ...made, State: "DELETING" }]);
  await goes.reached;
  expect(await ask("GET", "to-vpc")).toMatchObject([200, { State: "DELETING" }]);
  expect(await ask("DELETE", "to-vpc")).toEqual(gone);
  goes.release();
  await world.settled();
  expect((await ask("GET", "to-vpc"))[0]).toBe(404);
  expect(await ask("GET")).toEqual([200, { NetworkConnectors: [] }]);
});

test("an update replaces the configuration; one that changes nothing says so", async () => {
  const { world, ask, refused } = await start();
  await ask("POST", "", REQUEST);
  await world.settled();
  const same = await ask("PUT", "to-vpc", { Configuration: REQUEST.Configuration, OperatorRole: null });
  const nothing = { LastUpdateStatus: "Successful", LastUpdateStatusReason: "No configuration changes detected" };
  expect(same).toMatchObject([202, { ...nothing, State: "ACTIVE", Configuration: REQUEST.Configuration }]);
  expect(await ask("GET", "to-vpc")).toMatchObject([200, nothing]);

  await world.clock.advance(5000);
  const held = world.hold("store.networkConnectors.settle:before");
  const VpcEgressConfiguration = {
    SubnetIds: ["subnet-1"],
    SecurityGroupIds: [],
    NetworkProtocol: "DualStack",
    AssociatedComputeResourceTypes: ["MicroVm"],
  };
  const request = { Configuration: { VpcEgressConfiguration }, ClientToken: "u" };
  const [status, answer] = await ask("PUT", "to-vpc", request);
  const LastModified = new Date(world.clock.now()).toISOString();
  expect(status).toBe(202);
  expect(answer).toMatchObject({ Configuration: request.Configuration, LastUpdateStatus: "InProgress", LastModified });
  expect(answer).not.toHaveProperty("LastUpdateStatusReason");
  await held.reached;
  expect(await ask("GET", "to-vpc")).toMatchObject([200, { LastUpdateStatus: "InProgress" }]);
  held.release();
  await world.settled();
  const [, details] = await ask("GET", "to-vpc");
  expect(details).toMatchObject({ Configuration: request.Configuration, LastUpdateStatus: "Successful", LastModified });
  expect(details).not.toHaveProperty("LastUpdateStatusReason");
  // The same request again is that update, not another one, and its token is nobody else's.
  expect(await ask("PUT", "to-vpc", request)).toEqual([202, answer]);
  const other = { Configuration: REQUEST.Configuration, ClientToken: "u" };
  expect(await refused("PUT", "to-vpc", other)).toEqual(OTHER_REQUEST);
});

test("whatever is done to a connector at once is done, and it comes to rest", async () => {
  const { world, ask } = await start();
  await ask("POST", "", REQUEST);
  const update = (n: number): Promise<[number, Answer]> => {
    const vpc = { ...REQUEST.Configuration.VpcEgressConfiguration, SubnetIds: [`subnet-${n}`] };
    return ask("PUT", "to-vpc", { Configuration: { VpcEgressConfiguration: vpc } });
  };
  const [, { Arn }] = await ask("GET", "to-vpc");
  const tag = async (n: number): Promise<[number]> => {
    const resource = { accountId: KEY.accountId, principalArn: KEY.principalArn };
    await world.operations.TagResource(
      { Resource: String(Arn), Tags: { [`k${n}`]: "v" } },
      { ...context(KEY.accountId), ...resource },
    );
    return [202];
  };
  const done = await Promise.all(Array.from({ length: 12 }, (_, n) => (n % 2 ? update(n) : tag(n))));
  expect(done.map(([status]) => status)).toEqual(Array(12).fill(202));
  await world.settled();
  expect(await ask("GET", "to-vpc")).toMatchObject([200, { State: "ACTIVE", LastUpdateStatus: "Successful" }]);
  const deletions = await Promise.all([ask("DELETE", "to-vpc"), tag(20).catch(() => [202]), ask("DELETE", "to-vpc")]);
  expect(deletions[0]).toMatchObject([202, { State: "DELETING" }]);
  await world.settled();
  expect((await ask("GET", "to-vpc"))[0]).toBe(404);
});

test("a client token makes one connector, also of many requests at once and after a restart", async () => {
  const { world, ask, refused } = await start();
  const answers = await Promise.all(Array.from({ length: 8 }, () => ask("POST", "", REQUEST)));
  expect(new Set(answers.map((answer) => JSON.stringify(answer)))).toHaveLength(1);
  await world.restart();
  expect(await ask("POST", "", REQUEST)).toEqual(answers[0]);
  expect(await ask("GET")).toMatchObject([200, { NetworkConnectors: [{ State: "ACTIVE" }] }]);
  expect(await refused("POST", "", { ...REQUEST, Name: "other" })).toEqual(OTHER_REQUEST);
  // The token is forgotten with the connector.
  await ask("DELETE", "to-vpc");
  await world.settled();
  const [status, anew] = await ask("POST", "", REQUEST);
  expect(status).toBe(202);
  expect(anew.Id).not.toBe(answers[0]?.[1].Id);
});

describe("refused is", () => {
  const invalid = (message: unknown): unknown[] => [400, "InvalidParameterValueException", { message }];
  const without = (name: string): object => ({ ...REQUEST, [name]: undefined });
  const vpc = (configuration: object): object => ({
    ...REQUEST,
    Configuration: { VpcEgressConfiguration: configuration },
  });
  test.each([
    ["no client token", without("ClientToken"), "ClientToken is a required field"],
    [
      "no operator role",
      without("OperatorRole"),
      "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type",
    ],
    ["no protocol", vpc({ ...VPC, NetworkProtocol: null }), "NetworkProtocol cannot be null or empty"],
    ["no subnets", vpc({ ...VPC, SubnetIds: null }), "SubnetIds cannot be null or empty"],
    [
      "an ARN as a name",
      { ...REQUEST, Name: `${ACCOUNT}:network-connector:nc-1` },
      expect.stringMatching(/^Name must be a name, not an ARN/),
    ],
    [
      "an id as a name",
      { ...REQUEST, Name: "nc-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60" },
      expect.stringMatching(/^Name must not look like a connector's id/),
    ],
    ["a key that is reserved", { ...REQUEST, Tags: { "aws:a": "b" } }, expect.stringMatching(/is reserved for AWS/)],
    [
      "no subnet at all, in the words of the service's paths",
      vpc({ ...VPC, SubnetIds: [] }),
      "1 validation error detected: Value '[]' at 'configuration.vpcEgressConfiguration.subnetIds' failed to satisfy constraint: Member must have length greater than or equal to 1",
    ],
    [
      "another kind of connector",
      { ...REQUEST, Configuration: {} },
      "1 validation error detected: Value '{}' at 'configuration' failed to satisfy constraint: Member must have exactly one of the members: [vpcEgressConfiguration]",
    ],
    [
      "another protocol",
      vpc({ ...VPC, NetworkProtocol: "IPv6" }),
      "1 validation error detected: Value 'IPv6' at 'configuration.vpcEgressConfiguration.networkProtocol' failed to satisfy constraint: Member must satisfy enum value set: [IPv4, DualStack]",
    ],
  ])("%s", async (_, request, message) => {
    const { ask, refused } = await start();
    expect(await refused("POST", "", request)).toEqual(invalid(message));
    expect(await ask("GET")).toEqual([200, { NetworkConnectors: [] }]);
  });

  test("a name that is taken", async () => {
    const { ask, refused } = await start();
    await ask("POST", "", REQUEST);
    expect(await refused("POST", "", { ...REQUEST, ClientToken: "other" })).toEqual([
      409,
      "ResourceConflictException",
      { message: "A network connector with the name to-vpc already exists." },
    ]);
  });

  test("what is not there, with a capital Message, and another account's, before anybody looks", async () => {
    const { refused } = await start();
    const unknown = (arn: string): unknown[] => [
      404,
      "ResourceNotFoundException",
      { Message: `Network connector not found for: ${arn}` },
    ];
    const managed = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS";
    const foreign = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1";
    for (const method of ["GET", "PUT", "DELETE"]) {
      const body = method === "PUT" ? {} : undefined;
      expect(await refused(method, "nobody", body)).toEqual(unknown(`${ACCOUNT}:network-connector:nobody`));
      expect(await refused(method, managed, body)).toEqual(unknown(managed));
      expect(await refused(method, "arn:nonsense", body)).toEqual(unknown("arn:nonsense"));
      expect(await refused(method, foreign, body)).toEqual([
        403,
        "AccessDeniedException",
        { Message: expect.stringContaining(foreign) },
      ]);
    }
  });
});

test("pages go through all that stay, while others come and go", async () => {
  const { world, ask, refused } = await start();
  const make = async (name: string): Promise<void> => {
    await world.clock.advance(1);
    expect((await ask("POST", "", { ...REQUEST, Name: name, ClientToken: name }))[0]).toBe(202);
  };
  for (let n = 0; n < 7; n++) await make(`n${n}`);
  await world.settled();
  const seen: unknown[] = [];
  let query: Record<string, string> = { MaxItems: "2" };
  for (let page = 0; ; page++) {
    const [, answer] = await ask("GET", "", undefined, query);
    const names = (answer.NetworkConnectors as { Name: string }[]).map(({ Name }) => Name);
    seen.push(...names);
    if (page === 0) {
      await ask("DELETE", names[1]!); // where the first page ends
      await ask("DELETE", "n0");
      await make("new");
      await world.settled();
      const other = { ...query, State: "ACTIVE", Marker: String(answer.NextMarker) };
      const message = "The Marker is not valid. Use the one of the previous page, with the same filters.";
      expect(await refused("GET", "", undefined, other)).toEqual([400, "InvalidParameterValueException", { message }]);
    }
    if (answer.NextMarker === undefined) break;
    query = { MaxItems: "2", Marker: String(answer.NextMarker) };
  }
  expect(seen).toEqual(["n6", "n5", "n4", "n3", "n2", "n1"]);
  expect((await ask("GET", "", undefined, { MaxItems: "100" }))[0]).toBe(200);
  expect((await refused("GET", "", undefined, { MaxItems: "101" }))[2]).toMatchObject({
    message: expect.stringMatching(/^1 validation error detected: Value '101' at 'maxItems'/),
  });
});

test("what a crash leaves on its way comes to its end with the next server", async () => {
  const { world, ask } = await start();
  for (const name of ["a", "b"]) await ask("POST", "", { ...REQUEST, Name: name, ClientToken: name });
  await world.settled();
  const held = world.hold("store.networkConnectors.settle:before");
  await ask("POST", "", { ...REQUEST, Name: "c", ClientToken: "c" });
  await ask("DELETE", "a");
  await ask("PUT", "b", { OperatorRole: `${REQUEST.OperatorRole}2` });
  const next = world.crash();
  held.release(); // the dead server goes no further
  await next;
  await world.settled();
  const [, { NetworkConnectors }] = await ask("GET");
  expect(new Set(NetworkConnectors as unknown[])).toEqual(
    new Set(["b", "c"].map((Name) => expect.objectContaining({ Name, State: "ACTIVE" }))),
  );
  const OperatorRole = `${REQUEST.OperatorRole}2`;
  expect(await ask("GET", "b")).toMatchObject([200, { LastUpdateStatus: "Successful", OperatorRole }]);
});

test("a microvm or an image that names one of which nobody has said what it is, is refused, and told why", async () => {
  const { world, ask } = await start();
  const [, { Arn }] = await ask("POST", "", REQUEST);
  const api = await startApi({ operations: world.operations });
  const image = { name: "demo", baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1" };
  const build = {
    ...image,
    buildRoleArn: REQUEST.OperatorRole,
    codeArtifact: { uri: "s3://bucket/app.zip" },
    clientToken: "i",
  };
  const post = async (path: string, body: object): Promise<unknown[]> => {
    const answer = await api.send({ method: "POST", path, body: JSON.stringify(body) });
    return [answer.status, Reflect.get(Object(await answer.json()), "message")];
  };
  const vpc = `The network connector ${Arn} cannot be used: the network-file of this server does not say what subnet-0aa, sg-0bb stands for. Have it say so, or use INTERNET_EGRESS.`;
  expect(await post("/2025-09-09/microvm-images", { ...build, egressNetworkConnectors: [Arn] })).toEqual([400, vpc]);
  expect((await post("/2025-09-09/microvm-images", build))[0]).toBe(201);
  await world.settled();
  const run = { imageIdentifier: `${ACCOUNT}:microvm-image:demo` };
  expect(await post("/2025-09-09/microvms", { ...run, egressNetworkConnectors: [Arn] })).toEqual([400, vpc]);
  expect(await post("/2025-09-09/microvms", { ...run, ingressNetworkConnectors: [Arn] })).toEqual([
    400,
    `The network connector ${Arn} cannot be used for ingress.`,
  ]);
  expect(world.machine.calls).toEqual([]);
});
