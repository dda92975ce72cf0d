import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Credentials } from "@torpor/sdk";
import type { Environment } from "./environment.ts";
import { Failure, usage } from "./failure.ts";

/** How to reach a server and whom to be there. */
export interface Connection {
  readonly endpointUrl: string;
  readonly s3EndpointUrl: string;
  readonly region: string;
  readonly accountId: string;
  readonly credentials: Credentials;
  /** PEM of the authority behind the microvms' HTTPS endpoint; undefined means the system's. */
  readonly caFile: string | undefined;
  /** Where the microvms' HTTPS endpoint listens, when an endpoint's name says no port. */
  readonly endpointPort: number;
}

/** As commander hands them over. */
export interface ConnectionFlags {
  readonly endpointUrl?: string;
  readonly region?: string;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly caFile?: string;
  readonly dataDir?: string;
}

/**
 * Flags win over AWS's environment variables, these over the credentials file that the server writes. Keys come in
 * pairs from one place; those of the environment count only together with an endpoint URL, because without one they
 * are keys for AWS.
 * @throws Failure saying what is missing
 */
export function resolveConnection(flags: ConnectionFlags, env: Environment, isRoot: boolean): Connection {
  const dataDir = flags.dataDir ?? env.dataDir ?? defaultDataDir(env, isRoot);
  const path = join(dataDir, "credentials.json");
  const file = readCredentialsFile(path);
  const endpointUrl = flags.endpointUrl ?? env.endpointUrl ?? file?.endpointUrl;
  if (endpointUrl === undefined)
    throw new Failure(
      `no server is known: there is no ${path}, and AWS_ENDPOINT_URL is not set`,
      "torpor serve, or TORPOR_DATA_DIR set to where a server keeps its data",
    );
  if (!URL.canParse(endpointUrl) || !/^https?:$/.test(new URL(endpointUrl).protocol))
    throw usage(`the endpoint URL is no http or https URL: ${endpointUrl}`);
  const elsewhere = flags.endpointUrl ?? env.endpointUrl;
  const credentials =
    pair(flags.accessKeyId, flags.secretAccessKey) ??
    (elsewhere === undefined ? undefined : pair(env.accessKeyId, env.secretAccessKey, env.sessionToken)) ??
    (file === undefined ? undefined : { accessKeyId: file.accessKeyId, secretAccessKey: file.secretAccessKey });
  if (credentials === undefined)
    throw new Failure(
      `no keys for ${endpointUrl}: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and there is no ${path}`,
      "--access-key-id and --secret-access-key, or --data-dir",
    );
  return {
    endpointUrl,
    s3EndpointUrl: env.s3EndpointUrl ?? endpointUrl,
    region: flags.region ?? (elsewhere === undefined ? undefined : env.region) ?? file?.region ?? "us-east-1",
    accountId: (elsewhere === undefined ? undefined : env.accountId) ?? file?.accountId ?? "000000000000",
    credentials,
    caFile: flags.caFile ?? file?.caFile,
    endpointPort: file?.endpointPort ?? 4743,
  };
}

/** As the server's own default (its setting data-dir). */
function defaultDataDir(env: Environment, isRoot: boolean): string {
  return isRoot ? "/var/lib/torpor" : join(env.home ?? "/", ".local/share/torpor");
}

function pair(id?: string, secret?: string, sessionToken?: string): Credentials | undefined {
  if (id === undefined || secret === undefined) return undefined;
  return {
    accessKeyId: id,
    secretAccessKey: secret,
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
}

interface CredentialsFile {
  readonly endpointUrl: string;
  readonly endpointPort: number | undefined;
  readonly region: string | undefined;
  readonly accountId: string | undefined;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly caFile: string | undefined;
}

function readCredentialsFile(path: string): CredentialsFile | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (err) {
    const code = err instanceof Error && "code" in err ? err.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    if (code === "EACCES") throw new Failure(`${path} belongs to another user`, "the same command as that user");
    throw err;
  }
  const broken = (what: string): Failure =>
    new Failure(`${path} is not as the server writes it: ${what}`, "torpor serve, which writes it anew");
  let fields: Map<string, unknown>;
  try {
    fields = new Map(Object.entries(Object(JSON.parse(text))));
  } catch {
    throw broken("it is not JSON");
  }
  const text_ = (name: string): string | undefined => {
    const value = fields.get(name);
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const needed = (name: string): string => {
    const value = text_(name);
    if (value === undefined) throw broken(`${name} is missing`);
    return value;
  };
  const port = fields.get("endpointPort");
  return {
    endpointUrl: needed("endpointUrl"),
    endpointPort: typeof port === "number" ? port : undefined,
    region: text_("region"),
    accountId: text_("accountId"),
    accessKeyId: needed("accessKeyId"),
    secretAccessKey: needed("secretAccessKey"),
    caFile: text_("caFile"),
  };
}
