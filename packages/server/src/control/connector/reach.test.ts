import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { EgressPolicy } from "../../host/host-client.ts";
import { temporaryFolder } from "../../store/testing.ts";
import { ACCOUNT, connectorArn, context, World } from "../testing/world.ts";

const FILE = `
[subnets.subnet-lan]
routes = ["10.20.0.0/16"]
[subnets.subnet-nat]
routes = ["public"]
[subnets.subnet-none]
routes = []
[subnets.subnet-theirs]
routes = ["public"]
accounts = ["999999999999"]
[security_groups.sg-https]
allow = [{ protocol = "tcp", ports = [443], cidrs = ["0.0.0.0/0"] }]
[security_groups.sg-api]
allow = [{ names = ["api.example.com"] }]
[security_groups.default]
allow = [{ protocol = "icmp", cidrs = ["0.0.0.0/0"] }]
`;
const HTTPS = { protocol: "tcp", ports: [[443, 443]], cidrs: ["0.0.0.0/0"] };
const API = { protocol: "any", ports: [], cidrs: ["0.0.0.0/0"], names: ["api.example.com"] };
const LAN = { grants: [{ routes: ["10.20.0.0/16"], rules: [HTTPS] }] };
const INTERNET = connectorArn("INTERNET_EGRESS");

let world: World;
let file: string;
beforeEach(async () => {
  file = join(await temporaryFolder(), "networks.toml");
  await writeFile(file, FILE);
  world = await World.create({ networkFile: file });
});

async function connector(name: string, SubnetIds: string[], SecurityGroupIds: string[]): Promise<string> {
  const { Arn } = await world.operations.CreateNetworkConnector(
    {
      Name: name,
      Configuration: {
        VpcEgressConfiguration: {
          SubnetIds,
          SecurityGroupIds,
          NetworkProtocol: "IPv4",
          AssociatedComputeResourceTypes: ["MicroVm"],
        },
      },
      OperatorRole: "arn:aws:iam::000000000000:role/connect",
      ClientToken: name,
    },
    context(),
  );
  await world.settled();
  return Arn;
}
const launched = (): (EgressPolicy | undefined)[] => world.machine.launches.map(({ egress }) => egress);

describe("a microvm reaches what its connectors stand for:", () => {
  test("routes of all subnets, rules of all groups; each connector by itself", async () => {
    const image = await world.image("demo");
    const both = await connector("both", ["subnet-lan", "subnet-nat"], ["sg-https", "sg-api"]);
    const none = await connector("none", ["subnet-none"], []);
    await world.running(image, { egressNetworkConnectors: [both, none] });
    expect(launched()).toEqual([
      {
        grants: [
          { routes: ["10.20.0.0/16", "public"], rules: [HTTPS, API] },
          { routes: [], rules: [{ protocol: "icmp", ports: [], cidrs: ["0.0.0.0/0"] }] },
        ],
      },
    ]);
  });

  test("public addresses as well with INTERNET_EGRESS beside them, and those alone without any", async () => {
    const image = await world.image("demo");
    const lan = await connector("lan", ["subnet-lan"], ["sg-https"]);
    await world.running(image, { egressNetworkConnectors: [INTERNET, lan] });
    await world.running(image, { egressNetworkConnectors: [INTERNET] });
    await world.running(image);
    const internet = { routes: ["public"], rules: [{ protocol: "any", ports: [], cidrs: ["0.0.0.0/0"] }] };
    expect(launched()).toEqual([{ grants: [internet, ...LAN.grants] }, undefined, undefined]);
  });

  test("those of its image, whose build reached the same", async () => {
    const lan = await connector("lan", ["subnet-lan"], ["sg-https"]);
    const image = await world.image("demo", { egressNetworkConnectors: [lan] });
    expect(world.machine.builds.map(({ egress }) => egress)).toEqual([LAN]);
    const id = await world.running(image);
    const vm = await world.operations.GetMicrovm({ microvmIdentifier: id }, context());
    expect(vm.egressNetworkConnectors).toEqual([lan]);
    await world.running(image, { egressNetworkConnectors: [INTERNET] });
    expect(launched()).toEqual([LAN, undefined]);
  });

  test("as they were at its launch, whatever becomes of connector and file; so do its forks", async () => {
    const image = await world.image("demo");
    const lan = await connector("lan", ["subnet-lan"], ["sg-https"]);
    const id = await world.running(image, { egressNetworkConnectors: [lan] });
    await world.operations.DeleteNetworkConnector({ Identifier: lan }, context());
    await writeFile(file, "");
    await world.crash();
    await world.settled();
    await world.control.extensions.checkpoints.forkMicrovm(context(), id, {});
    await world.settled();
    expect(launched()).toEqual([LAN, LAN]);
    const later = world.operations.RunMicrovm({ imageIdentifier: image, egressNetworkConnectors: [lan] }, context());
    await expect(later).rejects.toMatchObject({
      kind: "invalid_input",
      message: `The network connector ${lan} does not exist.`,
    });
  });
});

describe("refused is a connector", () => {
  test.each([
    ["whose subnet", ["subnet-lan", "subnet-other"], ["sg-https"], "subnet-other"],
    ["whose group", ["subnet-lan"], ["sg-https", "sg-other"], "sg-other"],
    ["whose subnets and groups", ["subnet-x", "subnet-y"], ["sg-z"], "subnet-x, subnet-y, sg-z"],
    ["whose subnet is another account's, which", ["subnet-theirs"], ["sg-https"], "subnet-theirs"],
  ])("%s nobody has said anything of, naming which", async (_, subnets, groups, named) => {
    const image = await world.image("demo");
    const arn = await connector("c", subnets, groups);
    const message = `The network connector ${arn} cannot be used: the network-file of this server does not say what ${named} stands for. Have it say so, or use INTERNET_EGRESS.`;
    const egressNetworkConnectors = [arn];
    const run = world.operations.RunMicrovm({ imageIdentifier: image, egressNetworkConnectors }, context());
    await expect(run).rejects.toMatchObject({ kind: "invalid_input", message });
    await expect(world.image("other", { egressNetworkConnectors })).rejects.toThrow(message);
    expect(world.machine.launches).toEqual([]);
  });

  test("without groups where nobody has said what the default one is", async () => {
    await writeFile(file, FILE.replace("security_groups.default", "security_groups.sg-unused"));
    world = await World.create({ networkFile: file });
    const image = await world.image("demo");
    const arn = await connector("c", ["subnet-lan"], []);
    const run = world.operations.RunMicrovm({ imageIdentifier: image, egressNetworkConnectors: [arn] }, context());
    await expect(run).rejects.toThrow(/what the default security group stands for/);
  });

  test("that is being deleted, is of another region, or was the image's and is gone", async () => {
    const lan = await connector("lan", ["subnet-lan"], ["sg-https"]);
    const image = await world.image("demo", { egressNetworkConnectors: [lan] });
    const run = (arn?: string) =>
      world.operations.RunMicrovm(
        { imageIdentifier: image, ...(arn && { egressNetworkConnectors: [arn] }) },
        context(),
      );
    await expect(run(lan.replace("us-east-1", "eu-west-1"))).rejects.toThrow("does not exist");
    await expect(run(lan.replace(ACCOUNT, "999999999999"))).rejects.toMatchObject({ kind: "denied" });
    const held = world.hold("store.networkConnectors.settle:before");
    await world.operations.DeleteNetworkConnector({ Identifier: lan }, context());
    await held.reached;
    await expect(run()).rejects.toMatchObject({
      kind: "conflict",
      message: `The network connector ${lan} is being deleted.`,
    });
    held.release();
    await world.settled();
    await expect(run()).rejects.toThrow(`The network connector ${lan} does not exist.`);
  });
});

test("a server with a network-file that cannot be read does not start", async () => {
  await writeFile(file, "[subnets.subnet-1]\nroutes = ['10.0.0.1/8']\n");
  await expect(World.create({ networkFile: file })).rejects.toThrow(/network-file .*10\.0\.0\.1\/8/);
});
