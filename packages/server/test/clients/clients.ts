import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { FakeHostServer } from "../fake-host/server.ts";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const CLIENTS = `${ROOT}.torpor/clients`;
type Reachable = Pick<FakeHostServer, "credentials" | "dataDir">;

const run = promisify(execFile);

/** Makes sure that the clients are there. @throws Error with what to do when they cannot be had */
export async function installClients(): Promise<void> {
  try {
    await run(`${ROOT}scripts/clients.sh`);
  } catch (err) {
    throw new Error(`the AWS clients are not there: ${outputOf(err)}`, { cause: err });
  }
}

/** Folder of the Python packages. */
export async function sitePackages(): Promise<string> {
  const { stdout } = await run(`${CLIENTS}/bin/python`, ["-c", "import botocore; print(botocore.__path__[0])"]);
  return stdout.trim().replace(/\/botocore$/, "");
}

/** What a Python program prints, as JSON. */
export async function python(server: Reachable, script: string, ...args: string[]): Promise<unknown> {
  return await json(server, "python", [fileURLToPath(new URL(script, import.meta.url)), ...args]);
}

/** What the AWS CLI prints; undefined for nothing. @throws Error with what it says on stderr */
export async function aws(server: Reachable, ...args: string[]): Promise<unknown> {
  return await json(server, "aws", args);
}

async function json(server: Reachable, program: string, args: readonly string[]): Promise<unknown> {
  try {
    const { stdout } = await run(`${CLIENTS}/bin/${program}`, args, { env: environment(server), maxBuffer: 1 << 26 });
    return stdout.trim() === "" ? undefined : JSON.parse(stdout);
  } catch (err) {
    throw new Error(`${program} ${args.join(" ")}: ${outputOf(err)}`, { cause: err });
  }
}

/** As `torpor env` has it, and nothing of whoever runs the tests. */
function environment({ credentials, dataDir }: Reachable): NodeJS.ProcessEnv {
  return {
    HOME: dataDir,
    PATH: "/usr/bin:/bin",
    AWS_ENDPOINT_URL: credentials.endpointUrl,
    AWS_REGION: credentials.region,
    AWS_DEFAULT_REGION: credentials.region,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_PAGER: "",
  };
}

function outputOf(err: unknown): string {
  const { stdout = "", stderr = "" } = err as { stdout?: string; stderr?: string };
  return `${stderr}${stdout}`.trim().slice(-4000) || String(err);
}
