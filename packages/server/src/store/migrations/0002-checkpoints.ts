import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

export const checkpoints: Migration = {
  async up(db: Kysely<never>): Promise<void> {
    await db.schema
      .createTable("checkpoints")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("microvm_id", "text", (c) => c.notNull())
      .addColumn("name", "text")
      .addColumn("internal", "integer", (c) => c.notNull())
      .addColumn("image_arn", "text", (c) => c.notNull())
      .addColumn("image_version", "integer", (c) => c.notNull())
      .addColumn("template_id", "text", (c) => c.notNull())
      .addColumn("spec", "text", (c) => c.notNull())
      .addColumn("parent_checkpoint_id", "text")
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("reason", "text")
      .addColumn("memory_bytes", "bigint")
      .addColumn("disk_bytes", "bigint")
      .execute();
    await db.schema
      .createIndex("checkpoints_newest_first")
      .on("checkpoints")
      .columns(["account_id", "created_at", "id"])
      .execute();
    await db.schema.createIndex("checkpoints_by_microvm").on("checkpoints").columns(["microvm_id"]).execute();

    // One column a statement: SQLite adds no more at once.
    for (const column of ["checkpoint_id", "origin_microvm_id", "rolled_back_to", "rollback_to"])
      await db.schema.alterTable("microvms").addColumn(column, "text").execute();
  },
};
