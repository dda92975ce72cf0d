import { randomBytes, randomInt } from "node:crypto";
import { join } from "node:path";
import { writeFileAtomic } from "../lib/atomic-file.ts";
import type { Clock } from "../lib/clock.ts";
import type { StoredAccessKeys } from "../store/access-keys.ts";
import type { AccessKey, AccessKeys } from "./request-context.ts";

const KEY_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** The keys that sign requests. */
export class Keys implements AccessKeys {
  readonly #rows: StoredAccessKeys;
  readonly #clock: Clock;

  constructor(rows: StoredAccessKeys, clock: Clock) {
    this.#rows = rows;
    this.#clock = clock;
  }

  async find(accessKeyId: string): Promise<AccessKey | undefined> {
    return await this.#rows.find(accessKeyId);
  }

  /** The account's first key, made when there is none yet. */
  async rootKey(accountId: string): Promise<AccessKey> {
    const [known] = await this.#rows.ofAccount(accountId);
    if (known) return known;
    const key = {
      accessKeyId: newAccessKeyId(),
      secretAccessKey: randomBytes(30).toString("base64"),
      accountId,
      principalArn: `arn:aws:iam::${accountId}:root`,
      createdAt: new Date(this.#clock.now()),
    };
    await this.#rows.insert(key);
    return key;
  }
}

/** Twenty characters, in the shape that AWS tools expect of a long-term key. */
function newAccessKeyId(): string {
  const random = Array.from({ length: 16 }, () => KEY_ID_ALPHABET[randomInt(KEY_ID_ALPHABET.length)]);
  return `AKIA${random.join("")}`;
}

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
