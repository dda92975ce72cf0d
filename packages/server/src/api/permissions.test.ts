import {
  CloudWatchLogsClient,
  DescribeLogGroupsCommand,
  FilterLogEventsCommand,
  GetLogEventsCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import { managedConnectorArn } from "@torpor/protocol";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { type Access, parsePolicy } from "../control/identity/policy.ts";
import type { AccessKeys } from "../control/request-context.ts";
import { ACCOUNT, context, REGION, World } from "../control/testing/world.ts";
import { type Call, startApi, type TestApi } from "./api.fixture.ts";
import { EVERY_OPERATION, type EveryOperation, type Named } from "./every-operation.fixture.ts";
import { KEY } from "./sigv4/signer.fixture.ts";

/** One key under different policies, in every operation that there is. What the operations do is not tried here. */

const USER = `arn:aws:iam::${ACCOUNT}:user/ci`;
let access: Access;
let api: TestApi;
let named: Named;

const key = { ...KEY, accountId: ACCOUNT, principalArn: USER, name: "ci" };
const keys: AccessKeys = { find: async () => ({ ...key, access }), used: () => {} };

beforeEach(async () => {
  const world = await World.create();
  const imageArn = await world.image("demo");
  const microvmId = await world.running(imageArn);
  const { extensions, authority: admission } = world.control;
  const { Id: connectorId } = await world.operations.CreateNetworkConnector(
    {
      Name: "net",
      ClientToken: "token",
      OperatorRole: `arn:aws:iam::${ACCOUNT}:role/some`,
      Configuration: {
        VpcEgressConfiguration: {
          SubnetIds: ["subnet-1"],
          NetworkProtocol: "IPv4",
          AssociatedComputeResourceTypes: ["MicroVm"],
        },
      },
    },
    context(),
  );
  const { checkpointId } = await extensions.checkpoints.create(context(), microvmId, null);
  const { accessKeyId } = await extensions.keys.create(context(), { name: "subject" });
  named = { imageArn, microvmId, checkpointId, accessKeyId, connectorId, accountId: ACCOUNT, buildId: "b" };
  const done = async () => ({}) as never;
  api = await startApi({
    keys,
    admission,
    extensions: {
      keys: { create: done, list: done, update: done, rotate: done, delete: done, policy: done, putPolicy: done },
      accounts: { create: done, list: done, update: done },
      audit: { list: async function* () {} },
      logGroups: {
        groups: done,
        streams: done,
        events: async () => ({ items: [], forward: "", backward: "" }),
        search: async () => ({ items: [], nextToken: null }),
        follow: async function* () {},
      },
    },
  });
});

const policy = (...statements: readonly (readonly [effect: "Allow" | "Deny", action: string, resource: string])[]) =>
  parsePolicy({
    Version: "2012-10-17",
    Statement: statements.map(([Effect, Action, Resource]) => ({ Effect, Action, Resource })),
  });

/** What AWS calls the resource of each operation here. */
function resourceOf({ permission: { on }, action }: EveryOperation): string {
  switch (on.kind) {
    case "any":
    case "server":
      return "*";
    case "arn":
    case "microvm":
    case "checkpoint":
      return named.imageArn;
    case "newImage":
      return `arn:aws:lambda:${REGION}:${ACCOUNT}:microvm-image:made`;
    case "connector":
      return `arn:aws:lambda:${REGION}:${ACCOUNT}:network-connector:${named.connectorId}`;
    case "newConnector":
      return `arn:aws:lambda:${REGION}:${ACCOUNT}:network-connector:made`;
    case "accessKey":
      return `arn:aws:iam::${ACCOUNT}:user/subject`;
    case "newAccessKey":
      return `arn:aws:iam::${ACCOUNT}:user/made`;
    case "logGroup":
      return `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:/some`;
    case "account":
      return `arn:aws:iam::${ACCOUNT}:root`;
    default:
      throw new Error(`${action} has a resource that is none: ${JSON.stringify(on satisfies never)}`);
  }
}

async function ask(
  operation: EveryOperation,
  under: Access,
): Promise<{ status: number; said: unknown; type: string | null; calls: readonly Call[] }> {
  access = under;
  const before = api.calls.length;
  const response = await api.send(operation.request(named));
  const text = await response.text();
  const said = response.status === 403 ? JSON.parse(text).Message : undefined;
  const type = response.headers.get("x-amzn-errortype");
  return { status: response.status, said, type, calls: api.calls.slice(before) };
}

const OPERATIONS = EVERY_OPERATION.map((operation) => [operation.action, operation] as const);

test.each(OPERATIONS)("%s needs permission for what it is done to", async (action, operation) => {
  const resource = resourceOf(operation);
  const denied = { status: 403, type: "AccessDeniedException", calls: [] };

  const none = await ask(operation, policy(["Allow", "s3:*", "*"]));
  const nothing = `User: ${USER} is not authorized to perform: ${action} on resource: ${resource} because no identity-based policy allows the ${action} action`;
  expect(none).toEqual({ ...denied, said: nothing });

  const forbidden = await ask(operation, policy(["Allow", "*", "*"], ["Deny", action, resource]));
  const explicit = `User: ${USER} is not authorized to perform: ${action} on resource: ${resource} with an explicit deny in an identity-based policy`;
  expect(forbidden).toEqual({ ...denied, said: explicit });

  if (resource !== "*") {
    const elsewhere = await ask(operation, policy(["Allow", "*", `${resource}-other`]));
    expect(elsewhere).toEqual({ ...denied, said: nothing });
  }
  const allowed = policy(
    ["Allow", action, resource],
    ["Allow", "iam:PassRole", "*"],
    ["Allow", "lambda:PassNetworkConnector", "*"],
  );
  expect((await ask(operation, allowed)).status).toBeLessThan(300);
  expect((await ask(operation, "full")).status).toBeLessThan(300);
});

const PASSING = OPERATIONS.filter(([, { permission }]) => permission.passesRole || permission.passesConnectors);

test.each(PASSING)(
  "%s needs permission for the role and the connectors that it hands over",
  async (action, operation) => {
    const { passesRole, passesConnectors = {} } = operation.permission;
    const own = ["Allow", action, "*"] as const;
    const role = ["Allow", "iam:PassRole", `arn:aws:iam::${ACCOUNT}:role/some`] as const;
    if (passesRole)
      expect(await ask(operation, policy(own, ["Allow", "lambda:*", "*"]))).toMatchObject({
        status: 403,
        said: expect.stringContaining(`perform: iam:PassRole on resource: arn:aws:iam::${ACCOUNT}:role/some because`),
        calls: [],
      });
    for (const connector of Object.values(passesConnectors).filter((name) => name !== "inherited")) {
      const arn = managedConnectorArn(REGION, connector);
      const refused = policy(own, role, ["Allow", "lambda:PassNetworkConnector", "*"], ["Deny", "lambda:Pass*", arn]);
      expect(await ask(operation, refused)).toMatchObject({
        status: 403,
        said: expect.stringContaining(`perform: lambda:PassNetworkConnector on resource: ${arn} with an explicit deny`),
        calls: [],
      });
      const exact = policy(own, role, ["Allow", "lambda:PassNetworkConnector", arn]);
      expect((await ask(operation, exact)).status).toBeLessThan(300);
    }
  },
);

test("connectors that are named need permission instead of the implicit ones", async () => {
  const run = EVERY_OPERATION.find(({ action }) => action === "lambda:RunMicrovm")!;
  const shell = managedConnectorArn(REGION, "SHELL_INGRESS");
  const request = run.request(named);
  const body = { ...JSON.parse(request.body ?? ""), ingressNetworkConnectors: [shell] };
  access = policy(
    ["Allow", "lambda:RunMicrovm", "*"],
    ["Allow", "iam:PassRole", "*"],
    ["Allow", "lambda:PassNetworkConnector", managedConnectorArn(REGION, "HTTP_INGRESS")],
  );
  const response = await api.send({ ...request, body: JSON.stringify(body) });
  expect(response.status).toBe(403);
  expect(await response.text()).toContain(`on resource: ${shell} because`);
});

test("a connector has one resource, whatever it is named by", async () => {
  const arn = (id: string) => `arn:aws:lambda:${REGION}:${ACCOUNT}:network-connector:${id}`;
  const rest = EVERY_OPERATION.find(({ action }) => action === "lambda:DeleteNetworkConnector")!;
  const { connectorId } = named;
  for (const identifier of [connectorId, "net", arn(connectorId), arn("net")]) {
    named = { ...named, connectorId: identifier };
    const denied = await ask(rest, policy(["Allow", "*", "*"], ["Deny", "*", arn(connectorId)]));
    expect(denied).toMatchObject({
      status: 403,
      said: expect.stringContaining(`${arn(connectorId)} with an explicit`),
    });
  }
});

test("of what does not exist only who may ask hears so", async () => {
  const get = EVERY_OPERATION.find(({ action }) => action === "lambda:GetMicrovm")!;
  named = { ...named, microvmId: "microvm-aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa" };
  expect(await ask(get, policy(["Allow", "lambda:RunMicrovm", "*"]))).toMatchObject({
    status: 403,
    said: expect.stringContaining("lambda:GetMicrovm on resource: * because"),
  });
  expect((await ask(get, policy(["Allow", "lambda:Get*", named.imageArn]))).calls).toMatchObject([
    { name: "GetMicrovm" },
  ]);
});

test("readers of logs need permission for the group or the stream", async () => {
  const { accessKeyId, secretAccessKey } = KEY;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new CloudWatchLogsClient({ endpoint: api.url, region: REGION, maxAttempts: 1, credentials });
  onTestFinished(() => client.destroy());
  const group = `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:/some`;
  const filter = new FilterLogEventsCommand({ logGroupName: "/some" });
  const get = new GetLogEventsCommand({ logGroupIdentifier: group, logStreamName: "s" });
  const describe = new DescribeLogGroupsCommand({});

  access = policy(["Allow", "logs:*", `${group}-other`]);
  const refused = (action: string, on: string) =>
    `User: ${USER} is not authorized to perform: logs:${action} on resource: ${on} because no identity-based policy allows the logs:${action} action`;
  await expect(client.send(filter)).rejects.toThrow(refused("FilterLogEvents", group));
  await expect(client.send(get)).rejects.toThrow(refused("GetLogEvents", `${group}:log-stream:s`));
  await expect(client.send(describe)).rejects.toMatchObject({
    name: "AccessDeniedException",
    message: refused("DescribeLogGroups", "*"),
  });

  access = policy(["Allow", "logs:FilterLogEvents", group], ["Allow", "logs:GetLogEvents", `${group}:log-stream:*`]);
  expect((await client.send(filter)).events).toEqual([]);
  expect((await client.send(get)).events).toEqual([]);
});
