import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";

export interface StoredAccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly accountId: string;
  readonly principalArn: string;
  readonly createdAt: Date;
}

export class StoredAccessKeys {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async insert(key: StoredAccessKey): Promise<void> {
    await this.#db
      .insertInto("access_keys")
      .values({
        access_key_id: key.accessKeyId,
        secret_access_key: key.secretAccessKey,
        account_id: key.accountId,
        principal_arn: key.principalArn,
        created_at: key.createdAt.getTime(),
      })
      .execute();
  }

  async find(accessKeyId: string): Promise<StoredAccessKey | undefined> {
    return (await this.#where("access_key_id", accessKeyId))[0];
  }

  /** Oldest first. */
  async ofAccount(accountId: string): Promise<StoredAccessKey[]> {
    return await this.#where("account_id", accountId);
  }

  async #where(column: "access_key_id" | "account_id", value: string): Promise<StoredAccessKey[]> {
    const rows = await this.#db
      .selectFrom("access_keys")
      .selectAll()
      .where(column, "=", value)
      .orderBy("created_at")
      .orderBy("access_key_id")
      .execute();
    return rows.map((row) => ({
      accessKeyId: row.access_key_id,
      secretAccessKey: row.secret_access_key,
      accountId: row.account_id,
      principalArn: row.principal_arn,
      createdAt: new Date(row.created_at),
    }));
  }
}
