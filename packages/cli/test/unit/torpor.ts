import { spawn } from "node:child_process";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The program as a user starts it, with an environment of its own. */
export async function torpor(args: readonly string[], env: NodeJS.ProcessEnv = {}, input = ""): Promise<Ran> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, ...args], {
    env: { HOME: "/nonexistent", TORPOR_DATA_DIR: "/nonexistent", ...env },
  });
  const ran = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    ran.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    ran.stderr += text;
  });
  child.stdin.on("error", () => {}); // it need not read what it is given
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { code, ...ran };
}

export type Answer = (
  request: { readonly method: string; readonly path: string; readonly body: string },
  response: ServerResponse,
) => unknown;

/** A server's side of the wire, as a test scripts it: what `answer` returns goes out as JSON, unless it ended the response. */
export async function listen(answer: Answer) {
  const asked: string[] = [];
  const server = createServer(async (request: IncomingMessage, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const path = decodeURIComponent(request.url ?? "");
    asked.push(`${request.method} ${path}`);
    const value = answer({ method: request.method ?? "", path, body }, response);
    if (response.writableEnded) return;
    if (value !== undefined) response.end(typeof value === "string" ? value : JSON.stringify(value));
    else response.writeHead(500).end(`nothing scripted for ${request.method} ${path}`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const url = `http://127.0.0.1:${address.port}`;
  return {
    asked,
    env: { AWS_ENDPOINT_URL: url, AWS_ACCESS_KEY_ID: "AKID", AWS_SECRET_ACCESS_KEY: "secret", AWS_REGION: "eu-west-1" },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const ID = "microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60";
export const IMAGE = "arn:aws:lambda:eu-west-1:000000000000:microvm-image:demo";

export const microvm = (state: string, more: Readonly<Record<string, unknown>> = {}) => ({
  microvmId: ID,
  state,
  endpoint: "9a41.lambda-microvm.eu-west-1.localhost",
  imageArn: IMAGE,
  imageVersion: "1.0",
  maximumDurationInSeconds: 28800,
  startedAt: Date.now() / 1000 - 300,
  ...more,
});
