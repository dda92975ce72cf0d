import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

export const networkConnectors: Migration = {
  async up(db: Kysely<never>): Promise<void> {
    await db.schema
      .createTable("network_connectors")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("generation", "integer", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("configuration", "text", (c) => c.notNull())
      .addColumn("operator_role", "text", (c) => c.notNull())
      .addColumn("update_status", "text")
      .addColumn("update_reason", "text")
      .addColumn("tags", "text", (c) => c.notNull())
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .addColumn("modified_at", "bigint", (c) => c.notNull())
      .addUniqueConstraint("network_connectors_name", ["account_id", "name"])
      .execute();
    await db.schema
      .createIndex("network_connectors_newest_first")
      .on("network_connectors")
      .columns(["account_id", "created_at", "id"])
      .execute();
  },
};
