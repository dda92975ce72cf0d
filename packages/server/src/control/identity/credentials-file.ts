import { join } from "node:path";
import { writeFileAtomic } from "../../lib/atomic-file.ts";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
  readonly accountId: string;
  /** Of the API. */
  readonly endpointUrl: string;
  /** Of the microvms' HTTPS endpoint. */
  readonly endpointPort: number;
  /** What its clients are to trust; undefined where the operator's own certificate needs nothing. */
  readonly caFile: string | undefined;
}

/** Where local tools such as `torpor env` find the root key. */
export const credentialsPath = (dataDir: string): string => join(dataDir, "credentials.json");

/** Writes them so that only the owner can read them, and returns the file's path. Further members are kept as given. */
export async function writeCredentials(dataDir: string, credentials: Credentials): Promise<string> {
  const path = credentialsPath(dataDir);
  await writeFileAtomic(path, `${JSON.stringify(credentials, null, 2)}\n`, 0o600);
  return path;
}
