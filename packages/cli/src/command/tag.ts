import { CONNECTOR_ID, formatConnectorArn, parseConnectorArn } from "@torpor/protocol";
import { Argument, Command } from "commander";
import type { Connection } from "../connection.ts";
import { usage } from "../failure.ts";
import { imageArn } from "../names.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";

const RESOURCE = new Argument("<resource>", "an image's name or ARN, or a connector's id or ARN");

export function tagCommand(signal: AbortSignal): Command {
  return new Command("tag")
    .description("tags of images and network connectors")
    .addCommand(
      clientCommand("ls", "list the tags of a resource")
        .addArgument(RESOURCE)
        .action((resource: string, flags: CommonFlags) => list(resource, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("set", "give a resource tags; others stay as they are")
        .addArgument(RESOURCE)
        .addArgument(new Argument("<key=value...>"))
        .action(async (resource: string, tags: string[], flags: CommonFlags) => {
          const session = openSession(flags, signal);
          const Resource = resourceArn(session.connection, resource);
          await session.client.call("TagResource", { Resource, Tags: tagsOf(tags) }, signal);
          await list(Resource, session);
        }),
    )
    .addCommand(
      clientCommand("rm", "take tags from a resource; those that it does not have are as good as taken")
        .addArgument(RESOURCE)
        .addArgument(new Argument("<key...>"))
        .action(async (resource: string, TagKeys: string[], flags: CommonFlags) => {
          const session = openSession(flags, signal);
          const Resource = resourceArn(session.connection, resource);
          await session.client.call("UntagResource", { Resource, TagKeys }, signal);
          await list(Resource, session);
        }),
    );
}

async function list(resource: string, { client, connection, out, signal }: Session): Promise<void> {
  const { Tags } = await client.call("ListTags", { Resource: resourceArn(connection, resource) }, signal);
  const tags = Object.entries(Tags ?? {});
  out.result(Tags ?? {}, () => (tags.length === 0 ? "no tags" : out.table(["KEY", "VALUE"], tags)));
}

/** `KEY=VALUE`: what is behind the first `=` is the value. @throws Failure */
export function tagsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw usage(`not a tag: ${text}`, "KEY=VALUE");
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function resourceArn(connection: Connection, resource: string): string {
  if (parseConnectorArn(resource)) return resource;
  if (!CONNECTOR_ID.test(resource)) return imageArn(connection, resource);
  return formatConnectorArn({ region: connection.region, account: connection.accountId, id: resource });
}
