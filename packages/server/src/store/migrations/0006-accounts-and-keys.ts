import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

export const accountsAndKeys: Migration = {
  async up(db: Kysely<never>): Promise<void> {
    await db.schema
      .createTable("accounts")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("name", "text")
      .addColumn("enabled", "integer", (c) => c.notNull())
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .execute();
    await sql`insert into accounts (id, enabled, created_at)
      select account_id, 1, min(created_at) from access_keys group by account_id`.execute(db);

    // Until now a key was its account's root key, and its secret was kept as it is: the server seals it at its start.
    const table = () => db.schema.alterTable("access_keys");
    await table()
      .addColumn("name", "text", (c) => c.notNull().defaultTo("root"))
      .execute();
    await table().addColumn("sealed_with", "text").execute();
    await table().addColumn("policy", "text").execute();
    await table()
      .addColumn("enabled", "integer", (c) => c.notNull().defaultTo(1))
      .execute();
    await table().addColumn("expires_at", "bigint").execute();
    await table().addColumn("last_used_at", "bigint").execute();
    await db.schema
      .createIndex("access_keys_by_account")
      .on("access_keys")
      .columns(["account_id", "created_at", "access_key_id"])
      .execute();
  },
};
