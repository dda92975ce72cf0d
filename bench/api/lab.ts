import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as sdk from "@aws-sdk/client-lambda-microvms";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { FakeHostServer, UNTHROTTLED } from "../../packages/server/test/fake-host/server.ts";
import { signatureOf } from "../../packages/server/test/fuzz/sign.ts";
import { SERVER_CORE } from "../harness/process.ts";

/** Microvms that are there to be read. */
export const CROWD = 200;

/** A whole server over a host that runs nothing, with an image and microvms. */
export class ApiLab implements AsyncDisposable {
  readonly server: FakeHostServer;
  readonly image: string;
  readonly microvms: readonly string[];

  private constructor(server: FakeHostServer, image: string, microvms: readonly string[]) {
    this.server = server;
    this.image = image;
    this.microvms = microvms;
  }

  static async start(nodeArgs: readonly string[]): Promise<ApiLab> {
    const settings = { ...UNTHROTTLED, "max-microvms": "16000" };
    const server = await FakeHostServer.start({ settings, wrapper: SERVER_CORE, nodeArgs });
    try {
      const { endpointUrl: endpoint, region, ...credentials } = server.credentials;
      const s3 = new S3Client({ endpoint, region, credentials });
      const client = server.client();
      await s3.send(new CreateBucketCommand({ Bucket: "artifacts" }));
      await s3.send(new PutObjectCommand({ Bucket: "artifacts", Key: "app.zip", Body: "a zip" }));
      const { imageArn = "" } = await client.send(
        new sdk.CreateMicrovmImageCommand({
          name: "bench",
          baseImageArn: `arn:aws:lambda:${region}:aws:microvm-image:al2023-1`,
          buildRoleArn: "arn:aws:iam::000000000000:role/build",
          codeArtifact: { uri: "s3://artifacts/app.zip" },
        }),
      );
      for (let state: string | undefined; state !== "CREATED"; await sleep(20))
        ({ state } = await client.send(new sdk.GetMicrovmImageCommand({ imageIdentifier: imageArn })));
      const microvms: string[] = [];
      for (let n = 0; n < CROWD; n++) {
        const { microvmId = "" } = await client.send(new sdk.RunMicrovmCommand({ imageIdentifier: imageArn }));
        microvms.push(microvmId);
      }
      s3.destroy();
      client.destroy();
      return new ApiLab(server, imageArn, microvms);
    } catch (err) {
      await server[Symbol.asyncDispose]();
      throw err;
    }
  }

  /** A signed request as bytes, good for some minutes. */
  request(method: string, target: string, body = ""): Buffer {
    const bytes = Buffer.from(body);
    const signature = signatureOf({ method, target, body: bytes }, "lambda", this.server.credentials, new Date());
    const headers = [...signature, ["content-type", "application/json"], ["content-length", String(bytes.length)]];
    const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines}\r\n`), bytes]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }
}

/** A server that answers the same JSON to whatever is asked, on the core of the real one. */
export async function bareServer(body: string): Promise<{ readonly port: number } & AsyncDisposable> {
  const child = spawnOnServersCore("floor-http.ts", [body]);
  const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
  return {
    port: Number(line),
    async [Symbol.asyncDispose]() {
      const gone = once(child, "exit");
      child.kill();
      await gone;
    },
  };
}

/** Milliseconds of durable inserts, on the core of the server and the disk of its data. */
export async function bareInserts(folder: string, milliseconds: number): Promise<readonly number[]> {
  const child = spawnOnServersCore("floor-sqlite.ts", [folder, String(milliseconds)]);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => {
    text += more;
  });
  await once(child, "close");
  return JSON.parse(text);
}

function spawnOnServersCore(file: string, args: readonly string[]) {
  const script = fileURLToPath(new URL(file, import.meta.url));
  const [program = "", ...rest] = [...SERVER_CORE, process.execPath, script, ...args];
  return spawn(program, rest, { stdio: ["ignore", "pipe", "inherit"] });
}
