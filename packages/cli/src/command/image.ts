import type { OperationOutput } from "@torpor/protocol";
import { ApiError } from "@torpor/sdk";
import { Argument, Command, Option } from "commander";
import { usage } from "../failure.ts";
import { imageArn, imageName } from "../names.ts";
import { age, type Output, printable } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";
import { until } from "../wait.ts";
import { buildCommand } from "./image-build.ts";

const IMAGE = new Argument("<image>", "name or ARN");
const VERSION = new Argument("<version>", "such as 2.0 or 2");

interface RemoveFlags extends CommonFlags {
  readonly imageVersion?: string;
  readonly wait: boolean;
}

export function imageCommand(signal: AbortSignal): Command {
  return new Command("image")
    .description("images: what microvms start from")
    .addCommand(buildCommand("build", "build an image from a folder with a Dockerfile; prints its ARN", signal))
    .addCommand(
      buildCommand(
        "update",
        "build the next version of an image, which has nothing of those before; prints its ARN",
        signal,
      ),
    )
    .addCommand(
      clientCommand("ls", "list images")
        .option("--filter <text>", "those with this in their name")
        .action((flags: CommonFlags & { filter?: string }) => list(flags.filter, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("show", "an image, its newest version and that version's builds")
        .addArgument(IMAGE)
        .action((image: string, flags: CommonFlags) => show(image, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("versions", "list the versions of an image")
        .addArgument(IMAGE)
        .action((image: string, flags: CommonFlags) => versions(image, openSession(flags, signal))),
    )
    .addCommand(switching("activate", "let microvms be started from a version again", "ACTIVE", signal))
    .addCommand(
      switching("deactivate", "start no more microvms from a version; those that have it go on", "INACTIVE", signal),
    )
    .addCommand(
      clientCommand("rm", "delete images, or one version of an image")
        .addArgument(new Argument("<image...>", "names or ARNs"))
        .addOption(new Option("--image-version <version>", "only this one of its versions"))
        .option("--no-wait", "do not wait until it is gone")
        .action((images: string[], flags: RemoveFlags) => remove(images, flags, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("bases", "list what images can be built on").action((flags: CommonFlags) =>
        bases(openSession(flags, signal)),
      ),
    );
}

function switching(name: string, summary: string, status: "ACTIVE" | "INACTIVE", signal: AbortSignal): Command {
  return clientCommand(name, summary)
    .addArgument(IMAGE)
    .addArgument(VERSION)
    .action(async (image: string, imageVersion: string, flags: CommonFlags) => {
      const { client, connection, out } = openSession(flags, signal);
      const imageIdentifier = imageArn(connection, image);
      const version = await client.call("UpdateMicrovmImageVersion", { imageIdentifier, imageVersion, status }, signal);
      out.result(version, () => `${imageName(version.imageArn)} ${version.imageVersion} ${version.status}`);
    });
}

async function list(filter: string | undefined, { client, out, signal }: Session): Promise<void> {
  const wanted = filter === undefined ? {} : { nameFilter: filter };
  const items = await Array.fromAsync(client.list("ListMicrovmImages", wanted, signal));
  const now = new Date();
  out.result(items, () =>
    items.length === 0
      ? `no images${filter === undefined ? "" : ` with "${printable(filter)}" in their name`}; next: torpor image build DIR`
      : out.table(
          ["IMAGE", "STATE", "ACTIVE", "FAILED", "CREATED"],
          items.map((image) => [
            image.name,
            image.state,
            image.latestActiveImageVersion ?? "-",
            image.latestFailedImageVersion ?? "-",
            `${age(image.createdAt, now)} ago`,
          ]),
        ),
  );
}

async function versions(image: string, { client, connection, out, signal }: Session): Promise<void> {
  const imageIdentifier = imageArn(connection, image);
  const items = await Array.fromAsync(client.list("ListMicrovmImageVersions", { imageIdentifier }, signal));
  const now = new Date();
  out.result(items, () =>
    out.table(
      ["VERSION", "STATE", "STATUS", "MEMORY", "CREATED", "REASON"],
      items.map((version) => [
        version.imageVersion,
        version.state,
        version.status,
        memoryOf(version),
        `${age(version.createdAt, now)} ago`,
        firstLine(version.stateReason ?? ""),
      ]),
    ),
  );
}

async function show(image: string, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const found = await client.call("GetMicrovmImage", { imageIdentifier: imageArn(connection, image) }, signal);
  const imageIdentifier = found.imageArn;
  const newest = { imageIdentifier, maxResults: 1 };
  const imageVersion =
    found.latestActiveImageVersion ??
    found.latestFailedImageVersion ??
    (await client.call("ListMicrovmImageVersions", newest, signal)).items[0]?.imageVersion ??
    "1.0";
  const version = await client.call("GetMicrovmImageVersion", { imageIdentifier, imageVersion }, signal);
  const builds = await client.call("ListMicrovmImageBuilds", { imageIdentifier, imageVersion }, signal);
  out.result({ image: found, version, builds: builds.items }, () =>
    [
      out.table(
        ["IMAGE", "STATE", "VERSION", "MEMORY", "CREATED"],
        [
          [
            found.name,
            found.state,
            `${version.imageVersion} ${version.state}`,
            memoryOf(version),
            found.createdAt.toISOString(),
          ],
        ],
      ),
      ...(version.stateReason ? [printable(version.stateReason)] : []),
      buildTable(builds.items, out),
      found.imageArn,
    ].join("\n"),
  );
}

function buildTable(builds: OperationOutput<"ListMicrovmImageBuilds">["items"], out: Output): string {
  return out.table(
    ["BUILD", "STATE", "ARCHITECTURE", "REASON"],
    builds.map((b) => [b.buildId, b.buildState, b.architecture, b.stateReason ?? ""]),
  );
}

async function remove(images: readonly string[], flags: RemoveFlags, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const { imageVersion } = flags;
  if (imageVersion !== undefined && images.length > 1)
    throw usage("a version is of one image", `torpor image rm ${images[0]} --image-version ${imageVersion}`);
  for (const image of images) {
    const imageIdentifier = imageArn(connection, image);
    const version = imageVersion === undefined ? undefined : { imageIdentifier, imageVersion };
    const begun = version
      ? await client.call("DeleteMicrovmImageVersion", version, signal)
      : await client.call("DeleteMicrovmImage", { imageIdentifier }, signal);
    if (flags.wait)
      await gone(
        () =>
          version
            ? client.call("GetMicrovmImageVersion", version, signal)
            : client.call("GetMicrovmImage", { imageIdentifier }, signal),
        signal,
      );
    const answer = { ...begun, state: flags.wait ? "DELETED" : begun.state };
    const name = imageName(imageIdentifier);
    out.item(answer, () => `${"imageVersion" in answer ? `${name} ${answer.imageVersion}` : name} ${answer.state}`);
  }
}

/** Until what is asked for is not there. */
async function gone(ask: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  await until(async () => {
    try {
      await ask();
      return undefined;
    } catch (err) {
      if (err instanceof ApiError && err.status === 404) return true;
      throw err;
    }
  }, signal);
}

async function bases({ client, out, signal }: Session): Promise<void> {
  const items: OperationOutput<"ListManagedMicrovmImageVersions">["items"][number][] = [];
  for await (const { imageArn: imageIdentifier } of client.list("ListManagedMicrovmImages", {}, signal))
    for await (const version of client.list("ListManagedMicrovmImageVersions", { imageIdentifier }, signal))
      items.push(version);
  out.result(items, () =>
    out.table(
      ["BASE", "VERSION", "STATUS", "ARN"],
      items.map(({ imageArn: arn, imageVersion, status }) => [imageName(arn), imageVersion, status ?? "-", arn]),
    ),
  );
}

const memoryOf = ({ resources }: Pick<OperationOutput<"GetMicrovmImageVersion">, "resources">): string =>
  `${resources?.[0]?.minimumMemoryInMiB ?? "?"} MiB`;
/** A table has one for each row; the whole is in the build's log. */
const firstLine = (text: string): string => text.split("\n", 1)[0] ?? "";
