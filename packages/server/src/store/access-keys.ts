import type { Kysely } from "kysely";
import type { AccessKeyRow, Schema } from "./schema.ts";

export interface StoredAccessKey {
  readonly accessKeyId: string;
  readonly secret: StoredSecret;
  readonly accountId: string;
  /** Of whoever the key is for; several keys may have it. */
  readonly name: string;
  readonly principalArn: string;
  /** A document in JSON; null means that all is allowed. */
  readonly policy: string | null;
  readonly enabled: boolean;
  readonly expiresAt: Date | null;
  /** Some time after the last use. */
  readonly lastUsedAt: Date | null;
  readonly createdAt: Date;
}

/** `sealedWith` names the key that the text is encrypted with; null: it is the secret itself, of an earlier version. */
export interface StoredSecret {
  readonly text: string;
  readonly sealedWith: string | null;
}

export type AccessKeyChange = Partial<Pick<StoredAccessKey, "policy" | "enabled" | "expiresAt">>;

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
        secret_access_key: key.secret.text,
        sealed_with: key.secret.sealedWith,
        account_id: key.accountId,
        name: key.name,
        principal_arn: key.principalArn,
        policy: key.policy,
        enabled: key.enabled ? 1 : 0,
        expires_at: key.expiresAt?.getTime() ?? null,
        last_used_at: key.lastUsedAt?.getTime() ?? null,
        created_at: key.createdAt.getTime(),
      })
      .execute();
  }

  async find(accessKeyId: string): Promise<StoredAccessKey | undefined> {
    const query = this.#db.selectFrom("access_keys").selectAll().where("access_key_id", "=", accessKeyId);
    const row = await query.executeTakeFirst();
    return row && fromRow(row);
  }

  /** As `find`, when its account is enabled as well. */
  async findUsable(accessKeyId: string): Promise<StoredAccessKey | undefined> {
    const row = await this.#db
      .selectFrom("access_keys")
      .innerJoin("accounts", "accounts.id", "access_keys.account_id")
      .selectAll("access_keys")
      .where("access_key_id", "=", accessKeyId)
      .where("access_keys.enabled", "=", 1)
      .where("accounts.enabled", "=", 1)
      .executeTakeFirst();
    return row && fromRow(row);
  }

  /** Oldest first. */
  async ofAccount(accountId: string): Promise<StoredAccessKey[]> {
    const rows = await this.#db
      .selectFrom("access_keys")
      .selectAll()
      .where("account_id", "=", accountId)
      .orderBy("created_at")
      .orderBy("access_key_id")
      .execute();
    return rows.map(fromRow);
  }

  async update(accessKeyId: string, change: AccessKeyChange): Promise<void> {
    const { policy, enabled, expiresAt } = change;
    await this.#db
      .updateTable("access_keys")
      .set({
        ...(policy !== undefined && { policy }),
        ...(enabled !== undefined && { enabled: enabled ? 1 : 0 }),
        ...(expiresAt !== undefined && { expires_at: expiresAt?.getTime() ?? null }),
      })
      .where("access_key_id", "=", accessKeyId)
      .execute();
  }

  async delete(accessKeyId: string): Promise<void> {
    await this.#db.deleteFrom("access_keys").where("access_key_id", "=", accessKeyId).execute();
  }

  /** When keys were last used, all in one transaction. */
  async recordUses(uses: ReadonlyMap<string, number>): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      for (const [accessKeyId, at] of uses)
        await trx
          .updateTable("access_keys")
          .set({ last_used_at: at })
          .where("access_key_id", "=", accessKeyId)
          .where((e) => e.or([e("last_used_at", "is", null), e("last_used_at", "<", at)]))
          .execute();
    });
  }

  /** Replaces the secrets that are kept as they are by what `seal` makes of them. */
  async sealAll(seal: (accessKeyId: string, secret: string) => StoredSecret): Promise<number> {
    return await this.#db.transaction().execute(async (trx) => {
      const open = await trx
        .selectFrom("access_keys")
        .select(["access_key_id", "secret_access_key"])
        .where("sealed_with", "is", null)
        .execute();
      for (const row of open) {
        const { text, sealedWith } = seal(row.access_key_id, row.secret_access_key);
        await trx
          .updateTable("access_keys")
          .set({ secret_access_key: text, sealed_with: sealedWith })
          .where("access_key_id", "=", row.access_key_id)
          .execute();
      }
      return open.length;
    });
  }
}

const fromRow = (row: AccessKeyRow): StoredAccessKey => ({
  accessKeyId: row.access_key_id,
  secret: { text: row.secret_access_key, sealedWith: row.sealed_with },
  accountId: row.account_id,
  name: row.name,
  principalArn: row.principal_arn,
  policy: row.policy,
  enabled: row.enabled === 1,
  expiresAt: row.expires_at === null ? null : new Date(row.expires_at),
  lastUsedAt: row.last_used_at === null ? null : new Date(row.last_used_at),
  createdAt: new Date(row.created_at),
});
