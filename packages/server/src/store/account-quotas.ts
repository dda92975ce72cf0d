import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";

/** A quota that was set for one account. */
export interface AccountQuota {
  readonly accountId: string;
  readonly name: string;
  /** Null: unlimited. */
  readonly value: number | null;
}

export class AccountQuotas {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async all(): Promise<AccountQuota[]> {
    const rows = await this.#db.selectFrom("account_quotas").selectAll().execute();
    return rows.map((row) => ({ accountId: row.account_id, name: row.name, value: row.value }));
  }

  async set({ accountId, name, value }: AccountQuota): Promise<void> {
    await this.#db
      .insertInto("account_quotas")
      .values({ account_id: accountId, name, value })
      .onConflict((c) => c.columns(["account_id", "name"]).doUpdateSet({ value }))
      .execute();
  }

  async remove(accountId: string, name: string): Promise<void> {
    await this.#db.deleteFrom("account_quotas").where("account_id", "=", accountId).where("name", "=", name).execute();
  }
}
