import type { Kysely } from "kysely";
import type { AccountRow, Schema } from "./schema.ts";

export interface Account {
  readonly id: string;
  readonly name: string | null;
  /** The keys of one that is not are refused. */
  readonly enabled: boolean;
  readonly createdAt: Date;
}

export class Accounts {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** `false`, and nothing written, when there is one with this id. */
  async insert(account: Account): Promise<boolean> {
    const { numInsertedOrUpdatedRows } = await this.#db
      .insertInto("accounts")
      .values({
        id: account.id,
        name: account.name,
        enabled: account.enabled ? 1 : 0,
        created_at: account.createdAt.getTime(),
      })
      .onConflict((c) => c.column("id").doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  }

  async find(id: string): Promise<Account | undefined> {
    const row = await this.#db.selectFrom("accounts").selectAll().where("id", "=", id).executeTakeFirst();
    return row && fromRow(row);
  }

  /** Oldest first. */
  async all(): Promise<Account[]> {
    const rows = await this.#db.selectFrom("accounts").selectAll().orderBy("created_at").orderBy("id").execute();
    return rows.map(fromRow);
  }

  async setEnabled(id: string, enabled: boolean): Promise<void> {
    await this.#db
      .updateTable("accounts")
      .set({ enabled: enabled ? 1 : 0 })
      .where("id", "=", id)
      .execute();
  }
}

const fromRow = (row: AccountRow): Account => ({
  id: row.id,
  name: row.name,
  enabled: row.enabled === 1,
  createdAt: new Date(row.created_at),
});
