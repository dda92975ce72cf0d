/** The only reader of process.env in the CLI. */
export interface Environment {
  readonly endpointUrl: string | undefined;
  readonly s3EndpointUrl: string | undefined;
  readonly region: string | undefined;
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
  readonly sessionToken: string | undefined;
  /** The keys' account, as AWS's SDKs know it. */
  readonly accountId: string | undefined;
  /** `TORPOR_DATA_DIR`: where the server keeps its credentials file. */
  readonly dataDir: string | undefined;
  readonly home: string | undefined;
  /** What the terminal is called. */
  readonly term: string | undefined;
  /** Where programs are. */
  readonly path: string;
  /** https://no-color.org */
  readonly noColor: boolean;
}

export function readEnvironment(env: NodeJS.ProcessEnv = process.env): Environment {
  const text = (name: string): string | undefined => (env[name] === "" ? undefined : env[name]);
  return {
    endpointUrl: text("AWS_ENDPOINT_URL_LAMBDA_MICROVMS") ?? text("AWS_ENDPOINT_URL"),
    s3EndpointUrl: text("AWS_ENDPOINT_URL_S3"),
    region: text("AWS_REGION") ?? text("AWS_DEFAULT_REGION"),
    accessKeyId: text("AWS_ACCESS_KEY_ID"),
    secretAccessKey: text("AWS_SECRET_ACCESS_KEY"),
    sessionToken: text("AWS_SESSION_TOKEN"),
    accountId: text("AWS_ACCOUNT_ID"),
    dataDir: text("TORPOR_DATA_DIR"),
    home: text("HOME"),
    term: text("TERM"),
    path: text("PATH") ?? "",
    noColor: text("NO_COLOR") !== undefined,
  };
}

/** What the server needs of the environment it takes over from us: all of it. */
export const inheritedEnvironment = (): NodeJS.ProcessEnv => process.env;
