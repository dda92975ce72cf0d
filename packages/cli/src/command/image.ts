import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync, openAsBlob } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { OperationInput } from "@torpor/protocol";
import { ApiError } from "@torpor/sdk";
import { Argument, Command, Option } from "commander";
import { Failure, usage } from "../failure.ts";
import { imageArn, nameOfFolder } from "../names.ts";
import { printable } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session, several, whole } from "../session.ts";
import { until } from "../wait.ts";
import { zipFolder } from "../zip-folder.ts";

const HOOKS = ["run", "resume", "suspend", "terminate"] as const;

interface BuildFlags extends CommonFlags {
  readonly name?: string;
  readonly memory?: string;
  readonly readyPort?: number;
  readonly readyTimeout?: number;
  readonly hook?: readonly string[];
  readonly env?: readonly string[];
  readonly allCapabilities?: boolean;
}

export function imageCommand(signal: AbortSignal): Command {
  return new Command("image")
    .description("images: what microvms start from")
    .addCommand(
      clientCommand("build", "build an image from a folder with a Dockerfile; prints its ARN")
        .addArgument(new Argument("<dir>", "folder with a Dockerfile"))
        .option("--name <name>", "the image's name (default: the folder's)")
        .addOption(
          new Option("--memory <mib>", "memory of its microvms").choices(["512", "1024", "2048", "4096", "8192"]),
        )
        .option("--ready-port <port>", "wait for /ready on this port before the snapshot", whole(1, 65535))
        .option("--ready-timeout <seconds>", "how long", whole(1, 3600))
        .addOption(
          new Option("--hook <name>", `call this hook on the ready port (several): ${HOOKS.join(", ")}`).argParser(
            several,
          ),
        )
        .addOption(
          new Option("--env <NAME=VALUE>", "environment variable of the workload (several)").argParser(several),
        )
        .option("--all-capabilities", "give the workload every capability of its kernel")
        .action((dir: string, flags: BuildFlags) => build(dir, flags, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("show", "an image, its newest version and that version's builds")
        .addArgument(new Argument("<image>", "name or ARN"))
        .action((image: string, flags: CommonFlags) => show(image, openSession(flags, signal))),
    );
}

async function build(dir: string, flags: BuildFlags, session: Session): Promise<void> {
  const { client, store, connection, out, signal } = session;
  const folder = resolve(dir);
  if (!existsSync(join(folder, "Dockerfile")))
    throw usage(`${folder} has no Dockerfile`, `torpor image build DIR with a DIR that has one`);
  const name = flags.name ?? nameOfFolder(basename(folder));
  const request = createRequest(name, flags, connection.region, connection.accountId);

  const zip = join(tmpdir(), `torpor-${randomUUID()}.zip`);
  try {
    await zipFolder(folder, zip, signal);
    const blob = await openAsBlob(zip);
    const bucket = `torpor-artifacts-${connection.accountId}-${connection.region}`;
    const key = `${name}/${await sha256OfFile(zip)}.zip`;
    out.progress(`uploading ${kib(blob.size)} to s3://${bucket}/${key}`);
    await store.createBucketIfMissing(bucket, signal);
    await store.put(bucket, key, blob, signal);
    request.codeArtifact = { uri: `s3://${bucket}/${key}` };
  } finally {
    await rm(zip, { force: true });
  }

  const created = await client.call("CreateMicrovmImage", request, signal).catch((err: unknown) => {
    if (err instanceof ApiError && /already exists/.test(err.message))
      throw new Failure(`an image named ${name} exists already`, `torpor image build ${dir} --name ${name}-2`);
    throw err;
  });
  const built = { imageIdentifier: created.imageArn, imageVersion: created.imageVersion };
  // The log goes to stderr as it is written: stdout is for the result.
  for await (const text of client.watchBuild(built, signal)) process.stderr.write(out.style("dim", printable(text)));
  const version = await client.call("GetMicrovmImageVersion", built, signal);
  if (version.state !== "SUCCESSFUL")
    throw new Failure(
      `the build of ${name} failed: ${version.stateReason ?? version.state}`,
      `torpor image build ${dir} --name ${name}-2, after mending what the log above shows`,
    );
  await until(async () => {
    const image = await client.call("GetMicrovmImage", { imageIdentifier: created.imageArn }, signal);
    return image.state === "CREATING" ? undefined : image;
  }, signal);
  out.progress(`built; next: torpor run ${name}`);
  const { imageArn: arn, imageVersion } = created;
  out.result({ imageArn: arn, imageVersion, name, state: version.state }, () => arn);
}

type CreateRequest = {
  -readonly [K in keyof OperationInput<"CreateMicrovmImage">]: OperationInput<"CreateMicrovmImage">[K];
};

function createRequest(name: string, flags: BuildFlags, region: string, accountId: string): CreateRequest {
  return {
    name,
    baseImageArn: `arn:aws:lambda:${region}:aws:microvm-image:al2023-1`,
    buildRoleArn: `arn:aws:iam::${accountId}:role/torpor-build`,
    codeArtifact: {},
    ...(flags.memory === undefined ? {} : { resources: [{ minimumMemoryInMiB: Number(flags.memory) }] }),
    ...(flags.allCapabilities ? { additionalOsCapabilities: ["ALL"] as const } : {}),
    ...(flags.env === undefined ? {} : { environmentVariables: Object.fromEntries(flags.env.map(variable)) }),
    ...hooksOf(flags),
  };
}

function hooksOf(flags: BuildFlags): Pick<OperationInput<"CreateMicrovmImage">, "hooks"> {
  const asked = flags.hook ?? [];
  const unknown = asked.find((hook) => !HOOKS.some((known) => known === hook));
  if (unknown !== undefined) throw usage(`no such hook: ${unknown}`, `--hook with one of ${HOOKS.join(", ")}`);
  if (flags.readyPort === undefined) {
    if (asked.length > 0 || flags.readyTimeout !== undefined)
      throw usage("hooks need to know their port", "the same command with --ready-port PORT");
    return {};
  }
  return {
    hooks: {
      port: flags.readyPort,
      microvmImageHooks: {
        ready: "ENABLED",
        ...(flags.readyTimeout === undefined ? {} : { readyTimeoutInSeconds: flags.readyTimeout }),
      },
      ...(asked.length === 0 ? {} : { microvmHooks: Object.fromEntries(asked.map((hook) => [hook, "ENABLED"])) }),
    },
  };
}

function variable(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw usage(`not NAME=VALUE: ${text}`, "--env NAME=VALUE");
  return [text.slice(0, at), text.slice(at + 1)];
}

async function show(image: string, { client, connection, out, signal }: Session): Promise<void> {
  const found = await client.call("GetMicrovmImage", { imageIdentifier: imageArn(connection, image) }, signal);
  const imageIdentifier = found.imageArn;
  const imageVersion = found.latestActiveImageVersion ?? found.latestFailedImageVersion ?? "1.0";
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
            `${version.resources?.[0]?.minimumMemoryInMiB ?? "?"} MiB`,
            found.createdAt.toISOString(),
          ],
        ],
      ),
      ...(version.stateReason ? [printable(version.stateReason)] : []),
      out.table(
        ["BUILD", "STATE", "ARCHITECTURE", "REASON"],
        builds.items.map((b) => [b.buildId, b.buildState, b.architecture, b.stateReason ?? ""]),
      ),
      found.imageArn,
    ].join("\n"),
  );
}

async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

const kib = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;
