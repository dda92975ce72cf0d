import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync, openAsBlob } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { OperationInput } from "@torpor/protocol";
import { ApiError } from "@torpor/sdk";
import { Argument, type Command, Option } from "commander";
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

type What = "build" | "update";

/** Builds what is in a folder, as a new image or as the next version of one that is there. */
export function buildCommand(what: What, summary: string, signal: AbortSignal): Command {
  return clientCommand(what, summary)
    .addArgument(new Argument("<dir>", "folder with a Dockerfile"))
    .option("--name <name>", "the image's name (default: the folder's)")
    .addOption(new Option("--memory <mib>", "memory of its microvms").choices(["512", "1024", "2048", "4096", "8192"]))
    .option("--ready-port <port>", "wait for /ready on this port before the snapshot", whole(1, 65535))
    .option("--ready-timeout <seconds>", "how long", whole(1, 3600))
    .addOption(
      new Option("--hook <name>", `call this hook on the ready port (several): ${HOOKS.join(", ")}`).argParser(several),
    )
    .addOption(new Option("--env <NAME=VALUE>", "environment variable of the workload (several)").argParser(several))
    .option("--all-capabilities", "give the workload every capability of its kernel")
    .action((dir: string, flags: BuildFlags) => build(what, dir, flags, openSession(flags, signal)));
}

async function build(what: What, dir: string, flags: BuildFlags, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const folder = resolve(dir);
  if (!existsSync(join(folder, "Dockerfile")))
    throw usage(`${folder} has no Dockerfile`, `torpor image ${what} DIR with a DIR that has one`);
  const name = flags.name ?? nameOfFolder(basename(folder));
  const configuration = configurationOf(flags, connection);

  const again = `torpor image update ${dir} --name ${name}`;
  const codeArtifact = await upload(folder, name, session);
  const begun = await begin(what, name, { ...configuration, codeArtifact }, session).catch((err: unknown) => {
    if (err instanceof ApiError && what === "build" && /already exists/.test(err.message))
      throw new Failure(`an image named ${name} exists already`, `${again}, or another --name`);
    throw err;
  });
  const built = { imageIdentifier: begun.imageArn, imageVersion: begun.imageVersion };
  // The log goes to stderr as it is written: stdout is for the result.
  for await (const text of client.watchBuild(built, signal)) process.stderr.write(out.style("dim", printable(text)));
  const version = await client.call("GetMicrovmImageVersion", built, signal);
  if (version.state !== "SUCCESSFUL")
    throw new Failure(
      `the build of ${name} ${built.imageVersion} failed: ${version.stateReason ?? version.state}`,
      `${again}, after mending what the log above shows`,
    );
  await until(async () => {
    const image = await client.call("GetMicrovmImage", { imageIdentifier: built.imageIdentifier }, signal);
    return image.state === "CREATING" || image.state === "UPDATING" ? undefined : image;
  }, signal);
  out.progress(`built ${name} ${built.imageVersion}; next: torpor run ${name}`);
  const { imageArn: arn, imageVersion } = begun;
  out.result({ imageArn: arn, imageVersion, name, state: version.state }, () => arn);
}

/** The folder as a zip in the object store; what was uploaded before has the same key and is not changed. */
async function upload(folder: string, name: string, session: Session): Promise<{ readonly uri: string }> {
  const { store, connection, out, signal } = session;
  const zip = join(tmpdir(), `torpor-${randomUUID()}.zip`);
  try {
    await zipFolder(folder, zip, signal);
    const blob = await openAsBlob(zip);
    const bucket = `torpor-artifacts-${connection.accountId}-${connection.region}`;
    const key = `${name}/${await sha256OfFile(zip)}.zip`;
    out.progress(`uploading ${kib(blob.size)} to s3://${bucket}/${key}`);
    await store.createBucketIfMissing(bucket, signal);
    await store.put(bucket, key, blob, signal);
    return { uri: `s3://${bucket}/${key}` };
  } finally {
    await rm(zip, { force: true });
  }
}

async function begin(
  what: What,
  name: string,
  configuration: Configuration,
  { client, connection, signal }: Session,
): Promise<{ readonly imageArn: string; readonly imageVersion: string }> {
  if (what === "build") return await client.call("CreateMicrovmImage", { ...configuration, name }, signal);
  const imageIdentifier = imageArn(connection, name);
  return await client.call("UpdateMicrovmImage", { ...configuration, imageIdentifier }, signal);
}

type Configuration = Omit<OperationInput<"UpdateMicrovmImage">, "imageIdentifier" | "clientToken">;

function configurationOf(
  flags: BuildFlags,
  { region, accountId }: Session["connection"],
): Omit<Configuration, "codeArtifact"> {
  return {
    baseImageArn: `arn:aws:lambda:${region}:aws:microvm-image:al2023-1`,
    buildRoleArn: `arn:aws:iam::${accountId}:role/torpor-build`,
    ...(flags.memory === undefined ? {} : { resources: [{ minimumMemoryInMiB: Number(flags.memory) }] }),
    ...(flags.allCapabilities ? { additionalOsCapabilities: ["ALL"] as const } : {}),
    ...(flags.env === undefined ? {} : { environmentVariables: Object.fromEntries(flags.env.map(variable)) }),
    ...hooksOf(flags),
  };
}

function hooksOf(flags: BuildFlags): Pick<Configuration, "hooks"> {
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

async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

const kib = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;
