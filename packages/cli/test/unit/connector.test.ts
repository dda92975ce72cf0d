import { describe, expect, test } from "vitest";
import { listen, torpor } from "./torpor.ts";

const ID = "nc-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60";
const ARN = `arn:aws:lambda:eu-west-1:000000000000:network-connector:${ID}`;
const PATH = "/2026-04-04/network-connectors";
const named = { Arn: ARN, Name: "to-vpc", Id: ID };
const connector = (State: string, more: object = {}) => ({
  ...named,
  State,
  Configuration: { VpcEgressConfiguration: { SubnetIds: ["subnet-1", "subnet-2"], NetworkProtocol: "DualStack" } },
  Version: 1,
  LastModified: new Date(Date.now() - 300_000).toISOString(),
  ...more,
});
const item = (Name: string) => ({
  ...named,
  Name,
  Type: "VPC_EGRESS",
  State: "ACTIVE",
  LastModified: new Date(Date.now() - 300_000).toISOString(),
});

describe("connector create", () => {
  test("waits until it is ACTIVE, prints its ARN, and says that nothing can use it", async () => {
    const states = ["PENDING", "ACTIVE"];
    const bodies: unknown[] = [];
    await using server = await listen(({ method, body }) => {
      if (method !== "POST") return connector(states.shift() ?? "");
      bodies.push(JSON.parse(body));
      return connector("PENDING");
    });
    const flags = ["--subnet", "subnet-1", "--subnet", "subnet-2", "--security-group", "sg-1", "--tag", "team=a"];
    const ran = await torpor(["connector", "create", "to-vpc", ...flags], server.env);
    expect(ran).toEqual({
      code: 0,
      stdout: `${ARN}\n`,
      stderr: "no microvm can use it yet: torpor run refuses it\n",
    });
    expect(bodies).toEqual([
      {
        Name: "to-vpc",
        OperatorRole: "arn:aws:iam::000000000000:role/torpor-connector",
        ClientToken: expect.stringMatching(/^[0-9a-f-]{36}$/),
        Configuration: {
          VpcEgressConfiguration: {
            SubnetIds: ["subnet-1", "subnet-2"],
            SecurityGroupIds: ["sg-1"],
            NetworkProtocol: "IPv4",
            AssociatedComputeResourceTypes: ["MicroVm"],
          },
        },
        Tags: { team: "a" },
      },
    ]);
    expect(states).toEqual([]);
  });

  test("wants a subnet, and says what is there when a name is taken", async () => {
    await using server = await listen((_, response) => {
      response.writeHead(409, { "x-amzn-errortype": "ResourceConflictException" });
      return { message: "A network connector with the name to-vpc already exists." };
    });
    expect(await torpor(["connector", "create", "to-vpc"], server.env)).toMatchObject({ code: 2 });
    const taken = await torpor(["connector", "create", "to-vpc", "--subnet", "subnet-1"], server.env);
    expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining("try: torpor connector show NAME") });
  });
});

test("connector ls is a table of all pages, or one JSON document", async () => {
  await using server = await listen(({ path }) =>
    path.includes("Marker")
      ? { NetworkConnectors: [item("second")] }
      : { NetworkConnectors: [item("first")], NextMarker: "m+1" },
  );
  const ran = await torpor(["connector", "ls"], server.env);
  const rows = ["first ", "second"].map((name) => `${name}  ${ID}  VPC_EGRESS  ACTIVE  5 min ago`);
  expect(ran.stdout).toBe(`NAME    ID${" ".repeat(39)}TYPE        STATE   CHANGED\n${rows.join("\n")}\n`);
  expect(server.asked).toEqual([`GET ${PATH}`, `GET ${PATH}?Marker=m+1`]);
  const { stdout } = await torpor(["connector", "ls", "--json"], server.env);
  expect(JSON.parse(stdout)).toMatchObject([{ Name: "first" }, { Name: "second" }]);
});

test("connector show tells what it leads to, and of one that is not there", async () => {
  await using server = await listen(({ path }, response) => {
    if (path.endsWith("/to-vpc")) return connector("ACTIVE");
    response.writeHead(404, { "x-amzn-errortype": "ResourceNotFoundException" });
    return { Message: "Network connector not found for: x" };
  });
  const { stdout } = await torpor(["connector", "show", "to-vpc"], server.env);
  expect(stdout).toContain("subnet-1 subnet-2");
  expect(stdout.endsWith(`${ARN}\n`)).toBe(true);
  expect(await torpor(["connector", "show", "nobody"], server.env)).toMatchObject({
    code: 1,
    stderr: "torpor: ResourceNotFoundException: Network connector not found for: x\ntry: torpor connector ls\n",
  });
});

test("connector rm waits until it is gone, unless it is told not to", async () => {
  let looks = 0;
  await using server = await listen(({ method }, response) => {
    if (method === "DELETE" || looks++ < 2) return connector("DELETING");
    response.writeHead(404, { "x-amzn-errortype": "ResourceNotFoundException" });
    return { Message: "Network connector not found for: x" };
  });
  expect((await torpor(["connector", "rm", "to-vpc"], server.env)).stdout).toBe("to-vpc DELETED\n");
  expect(looks).toBe(3);
  expect((await torpor(["connector", "rm", "to-vpc", "--no-wait"], server.env)).stdout).toBe("to-vpc DELETING\n");
  expect(looks).toBe(3);
});
