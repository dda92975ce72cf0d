import type { OperationInput, OperationOutput } from "@torpor/protocol";
import { ApiError, type TorporClient } from "@torpor/sdk";
import { Argument, Command, Option } from "commander";
import { Failure } from "../failure.ts";
import { age } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session, several } from "../session.ts";
import { until } from "../wait.ts";
import { tagsOf } from "./tag.ts";

const CONNECTOR = new Argument("<connector>", "name, id or ARN");
const PROTOCOLS = ["IPv4", "DualStack"] as const;

interface CreateFlags extends CommonFlags {
  readonly subnet: readonly string[];
  readonly securityGroup?: readonly string[];
  readonly protocol: (typeof PROTOCOLS)[number];
  readonly role?: string;
  readonly tag?: readonly string[];
  readonly wait: boolean;
}

export function connectorCommand(signal: AbortSignal): Command {
  return new Command("connector")
    .description("network connectors: ways out of microvms into networks of one's own")
    .addCommand(
      clientCommand("create", "describe a network; prints the connector's ARN. No microvm can use it yet")
        .addArgument(new Argument("<name>"))
        .requiredOption("--subnet <id>", "a subnet (several)", several)
        .option("--security-group <id>", "a security group (several)", several)
        .addOption(new Option("--protocol <protocol>").choices(PROTOCOLS).default(PROTOCOLS[0]))
        .option("--role <arn>", "who makes network interfaces; not used here")
        .option("--tag <key=value>", "a tag (several)", several)
        .option("--no-wait", "do not wait until it is ACTIVE")
        .action((name: string, flags: CreateFlags) => create(name, flags, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("ls", "list network connectors").action((flags: CommonFlags) => list(openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("show", "everything about one network connector")
        .addArgument(CONNECTOR)
        .action((name: string, flags: CommonFlags) => show(name, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("rm", "delete network connectors")
        .addArgument(new Argument("<connector...>", "names, ids or ARNs"))
        .option("--no-wait", "do not wait until it is gone")
        .action((names: string[], flags: CommonFlags & { wait: boolean }) =>
          remove(names, flags.wait, openSession(flags, signal)),
        ),
    );
}

async function create(name: string, flags: CreateFlags, { client, connection, out, signal }: Session): Promise<void> {
  const input: OperationInput<"CreateNetworkConnector"> = {
    Name: name,
    OperatorRole: flags.role ?? `arn:aws:iam::${connection.accountId}:role/torpor-connector`,
    Configuration: {
      VpcEgressConfiguration: {
        SubnetIds: flags.subnet,
        SecurityGroupIds: flags.securityGroup,
        NetworkProtocol: flags.protocol,
        AssociatedComputeResourceTypes: ["MicroVm"],
      },
    },
    ...(flags.tag && { Tags: tagsOf(flags.tag) }),
  };
  const begun = await client.call("CreateNetworkConnector", input, signal);
  const { Id, Arn } = begun;
  const made = flags.wait
    ? await until(async () => {
        const now = await client.call("GetNetworkConnector", { Identifier: Id }, signal);
        if (now.State === "FAILED")
          throw new Failure(
            `${name} could not be made: ${now.StateReason ?? "no reason given"}`,
            "torpor connector ls",
          );
        return now.State === "PENDING" ? undefined : now;
      }, signal)
    : begun;
  out.result(made, () => Arn);
  out.progress("no microvm can use it yet: torpor run refuses it");
}

async function list({ client, out, signal }: Session): Promise<void> {
  const items = await Array.fromAsync(connectors(client, signal));
  const now = new Date();
  out.result(items, () =>
    items.length === 0
      ? "no network connectors; next: torpor connector create NAME --subnet ID"
      : out.table(
          ["NAME", "ID", "TYPE", "STATE", "CHANGED"],
          items.map(({ Name, Id, Type, State, LastModified }) => [
            Name,
            Id,
            Type,
            State ?? "-",
            LastModified ? `${age(LastModified, now)} ago` : "-",
          ]),
        ),
  );
}

async function* connectors(
  client: TorporClient,
  signal: AbortSignal,
): AsyncGenerator<OperationOutput<"ListNetworkConnectors">["NetworkConnectors"][number]> {
  for (let Marker: string | null | undefined; ; ) {
    const page = await client.call("ListNetworkConnectors", { Marker }, signal);
    yield* page.NetworkConnectors;
    if (!page.NextMarker) return;
    Marker = page.NextMarker;
  }
}

async function show(name: string, { client, out, signal }: Session): Promise<void> {
  const found = await client.call("GetNetworkConnector", { Identifier: name }, signal);
  const vpc = found.Configuration?.VpcEgressConfiguration;
  out.result(found, () =>
    [
      out.table(
        ["NAME", "ID", "STATE", "PROTOCOL", "VERSION"],
        [[found.Name, found.Id, found.State ?? "-", vpc?.NetworkProtocol ?? "-", String(found.Version ?? "-")]],
      ),
      out.table(
        ["SUBNETS", "SECURITY GROUPS"],
        [[(vpc?.SubnetIds ?? []).join(" "), (vpc?.SecurityGroupIds ?? []).join(" ") || "-"]],
      ),
      found.Arn,
    ].join("\n"),
  );
}

async function remove(names: readonly string[], wait: boolean, { client, out, signal }: Session): Promise<void> {
  for (const name of names) {
    const begun = await client.call("DeleteNetworkConnector", { Identifier: name }, signal);
    if (wait) await until(() => isGone(begun.Id, client, signal), signal);
    const State = wait ? "DELETED" : begun.State;
    out.item({ ...begun, State }, () => `${begun.Name} ${State}`);
  }
}

async function isGone(Identifier: string, client: TorporClient, signal: AbortSignal): Promise<true | undefined> {
  try {
    await client.call("GetNetworkConnector", { Identifier }, signal);
    return undefined;
  } catch (err) {
    if (err instanceof ApiError && err.status === 404) return true;
    throw err;
  }
}
