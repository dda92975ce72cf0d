import { createHash, randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateMicrovmImageCommand, type LambdaMicrovmsClient } from "@aws-sdk/client-lambda-microvms";
import { CreateBucketCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { zipFolder } from "../../packages/cli/src/zip-folder.ts";
import { formatImageArn } from "../../packages/protocol/src/index.ts";
import { ApiError } from "../../packages/sdk/src/index.ts";
import type { Server } from "./server.ts";
import type { Report } from "./show.ts";

export interface Clients {
  readonly microvms: LambdaMicrovmsClient;
  readonly s3: S3Client;
}

const MEMORY_MIB = 512;

/**
 * The image of the folder as it is now: the one of an earlier run, or built before your eyes. Its name says what it was
 * made from, on what host, so that a change of either makes a new one.
 */
export async function ensureImage(
  folder: string,
  server: Server,
  clients: Clients,
  report: Report,
  signal: AbortSignal,
): Promise<string> {
  const zipPath = join(tmpdir(), `torpor-quickstart-${randomUUID()}.zip`);
  let zip: Buffer;
  try {
    await zipFolder(folder, zipPath, signal);
    zip = await readFile(zipPath);
  } finally {
    await rm(zipPath, { force: true });
  }
  const host = await server.client.host(signal);
  const hash = createHash("sha256").update(zip).update(JSON.stringify(host)).digest("hex").slice(0, 12);
  for (let attempt = 1; ; attempt++) {
    const name = attempt === 1 ? `hello-${hash}` : `hello-${hash}-${attempt}`;
    const arn = formatImageArn({ region: server.connection.region, account: server.connection.accountId, name });
    const state = await stateOf(arn, server, signal);
    if (state === "CREATE_FAILED") continue; // an earlier run's; its name stays taken
    if (state === undefined) {
      await report.timed("upload the artifact", () => upload(`${name}.zip`, zip, server, clients, signal));
      await report.timed("build the image", async () => {
        await create(name, server, clients, signal);
        await followBuild(arn, server, report, signal);
      });
      return arn;
    }
    if (state === "CREATING") await report.timed("build the image", () => followBuild(arn, server, report, signal));
    else report.say(`the image ${name} is there already: examples/hello has not changed`);
    return arn;
  }
}

async function stateOf(imageIdentifier: string, server: Server, signal: AbortSignal): Promise<string | undefined> {
  try {
    return (await server.client.call("GetMicrovmImage", { imageIdentifier }, signal)).state;
  } catch (err) {
    if (err instanceof ApiError && err.status === 404) return undefined;
    throw err;
  }
}

const bucketOf = ({ connection }: Server): string => `quickstart-${connection.accountId}`;

async function upload(key: string, zip: Buffer, server: Server, { s3 }: Clients, abortSignal: AbortSignal) {
  const Bucket = bucketOf(server);
  try {
    await s3.send(new CreateBucketCommand({ Bucket }), { abortSignal });
  } catch (err) {
    if (!(err instanceof Error && err.name.startsWith("BucketAlready"))) throw err;
  }
  await s3.send(new PutObjectCommand({ Bucket, Key: key, Body: zip }), { abortSignal });
}

async function create(name: string, server: Server, { microvms }: Clients, abortSignal: AbortSignal) {
  const { region, accountId } = server.connection;
  await microvms.send(
    new CreateMicrovmImageCommand({
      name,
      baseImageArn: `arn:aws:lambda:${region}:aws:microvm-image:al2023-1`,
      buildRoleArn: `arn:aws:iam::${accountId}:role/quickstart`,
      codeArtifact: { uri: `s3://${bucketOf(server)}/${name}.zip` },
      resources: [{ minimumMemoryInMiB: MEMORY_MIB }],
    }),
    { abortSignal },
  );
}

/** @throws Error with the build's reason when it failed */
async function followBuild(imageArn: string, server: Server, report: Report, signal: AbortSignal): Promise<void> {
  const imageVersion = "1.0";
  const version = { imageIdentifier: imageArn, imageVersion };
  for await (const text of server.client.watchBuild(version, signal)) report.quote(text);
  const ended = await server.client.call("GetMicrovmImageVersion", version, signal);
  if (ended.state !== "SUCCESSFUL")
    throw new Error(`the image could not be built: ${ended.stateReason ?? ended.state}`);
}
