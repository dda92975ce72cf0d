import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import {
  CreateMicrovmAuthTokenCommand,
  CreateMicrovmImageCommand,
  type CreateMicrovmImageCommandInput,
  GetMicrovmCommand,
  GetMicrovmImageCommand,
  GetMicrovmImageVersionCommand,
  RunMicrovmCommand,
  type RunMicrovmCommandInput,
  type RunMicrovmCommandOutput,
  SuspendMicrovmCommand,
  TerminateMicrovmCommand,
} from "@aws-sdk/client-lambda-microvms";
import { CreateBucketCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { eventually, type TestServer, zip } from "./server.ts";

export const HELLO = fileURLToPath(new URL("../../../../examples/hello", import.meta.url));
export const BASE_ARN = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1";
const BUCKET = "artifacts";

/** What examples/hello answers. */
export interface HelloAnswer {
  readonly memory: number;
  readonly disk: number;
  readonly background: { readonly pid: number; readonly startedAt: number; readonly count: number };
  readonly pid: number;
  readonly time: number;
}

/** Uploads the artifact and asks for the image; resolves with its ARN, whatever becomes of it. */
export async function createImage(
  server: TestServer,
  name: string,
  artifact: Readonly<Record<string, string>> | string | Buffer,
  more: Partial<CreateMicrovmImageCommandInput> = {},
): Promise<string> {
  const body = Buffer.isBuffer(artifact) ? artifact : await zip(artifact);
  const key = `${name}-${createHash("sha256").update(body).digest("hex").slice(0, 8)}.zip`;
  await server.s3.send(new CreateBucketCommand({ Bucket: BUCKET })).catch((err: Error) => {
    if (err.name !== "BucketAlreadyOwnedByYou") throw err;
  });
  await server.s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }));
  const { imageArn } = await server.api.send(
    new CreateMicrovmImageCommand({
      name,
      baseImageArn: BASE_ARN,
      buildRoleArn: `arn:aws:iam::${server.credentials.accountId}:role/build`,
      codeArtifact: { uri: `s3://${BUCKET}/${key}` },
      resources: [{ minimumMemoryInMiB: 512 }],
      ...more,
    }),
  );
  return imageArn!;
}

/** Waits for the end of the first build. */
export async function settledImage(
  server: TestServer,
  imageIdentifier: string,
): Promise<{ readonly state: string; readonly versionState: string; readonly stateReason: string | undefined }> {
  const state = await eventually(`the build of ${imageIdentifier}`, async () => {
    const image = await server.api.send(new GetMicrovmImageCommand({ imageIdentifier }));
    return image.state === "CREATING" ? undefined : image.state!;
  });
  const version = await server.api.send(new GetMicrovmImageVersionCommand({ imageIdentifier, imageVersion: "1.0" }));
  return { state, versionState: version.state!, stateReason: version.stateReason };
}

export async function buildImage(...args: Parameters<typeof createImage>): Promise<string> {
  const arn = await createImage(...args);
  const settled = await settledImage(args[0], arn);
  if (settled.state !== "CREATED") throw new Error(`image is ${settled.state}: ${settled.stateReason}`);
  return arn;
}

export async function microvmState(server: TestServer, microvmIdentifier: string): Promise<string> {
  return (await server.api.send(new GetMicrovmCommand({ microvmIdentifier }))).state!;
}

export async function untilState(server: TestServer, id: string, ...states: readonly string[]): Promise<string> {
  return await eventually(`${id} ${states.join(" or ")}`, async () => {
    const state = await microvmState(server, id);
    return states.includes(state) ? state : undefined;
  });
}

type Started = Pick<RunMicrovmCommandOutput, "microvmId" | "endpoint">;

/** A running microvm and the headers that open its endpoint. */
export class RunningMicrovm {
  readonly id: string;
  readonly endpoint: string;
  readonly #server: TestServer;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(server: TestServer, vm: Started, headers: Readonly<Record<string, string>>) {
    this.id = vm.microvmId!;
    this.endpoint = vm.endpoint!;
    this.#server = server;
    this.#headers = headers;
  }

  static async run(
    server: TestServer,
    imageIdentifier: string,
    more: Partial<RunMicrovmCommandInput> = {},
  ): Promise<RunningMicrovm> {
    const vm = await server.api.send(new RunMicrovmCommand({ imageIdentifier, ...more }));
    return await RunningMicrovm.open(server, vm);
  }

  /** One that was started otherwise. */
  static async open(server: TestServer, vm: Started): Promise<RunningMicrovm> {
    const { authToken } = await server.api.send(
      new CreateMicrovmAuthTokenCommand({
        microvmIdentifier: vm.microvmId!,
        expirationInMinutes: 60,
        allowedPorts: [{ allPorts: {} }],
      }),
    );
    return new RunningMicrovm(server, vm, authToken!);
  }

  async get(path = "/", port = 8080): Promise<{ status: number; headers: Record<string, unknown>; body: string }> {
    const headers = { ...this.#headers, "X-aws-proxy-port": String(port) };
    return await this.#server.fetch(this.endpoint, path, { headers });
  }

  /** Asks examples/hello. */
  async hello(): Promise<HelloAnswer> {
    const { status, headers, body } = await this.get();
    if (status !== 200) throw new Error(`the endpoint answered ${status} ${headers["x-aws-proxy-error"]}: ${body}`);
    return JSON.parse(body) as HelloAnswer;
  }
}

/** Until it sleeps. */
export async function suspend(server: TestServer, { id }: RunningMicrovm): Promise<void> {
  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: id }));
  await untilState(server, id, "SUSPENDED");
}

/** Until nothing of them is left. */
export async function terminate(server: TestServer, ...vms: readonly RunningMicrovm[]): Promise<void> {
  for (const { id } of vms) await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: id }));
  for (const { id } of vms) await untilState(server, id, "TERMINATED");
}

export const AWAKE_ON_REQUEST = {
  idlePolicy: { maxIdleDurationSeconds: 600, suspendedDurationSeconds: 3600, autoResumeEnabled: true },
};
