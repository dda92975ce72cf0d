import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

export const initial: Migration = {
  async up(db: Kysely<never>): Promise<void> {
    await db.schema
      .createTable("settings")
      .addColumn("name", "text", (c) => c.primaryKey())
      .addColumn("value", "text", (c) => c.notNull())
      .execute();

    await db.schema
      .createTable("access_keys")
      .addColumn("access_key_id", "text", (c) => c.primaryKey())
      .addColumn("secret_access_key", "text", (c) => c.notNull())
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("principal_arn", "text", (c) => c.notNull())
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .execute();

    await db.schema
      .createTable("idempotency_tokens")
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("operation", "text", (c) => c.notNull())
      .addColumn("token", "text", (c) => c.notNull())
      .addColumn("request_digest", "text", (c) => c.notNull())
      .addColumn("response", "text", (c) => c.notNull())
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .addPrimaryKeyConstraint("idempotency_tokens_pk", ["account_id", "operation", "token"])
      .execute();

    await db.schema
      .createTable("images")
      .addColumn("arn", "text", (c) => c.primaryKey())
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("generation", "integer", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("latest_active_version", "integer")
      .addColumn("latest_failed_version", "integer")
      .addColumn("tags", "text", (c) => c.notNull())
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .addColumn("updated_at", "bigint", (c) => c.notNull())
      .execute();

    await db.schema
      .createTable("image_versions")
      .addColumn("image_arn", "text", (c) => c.notNull().references("images.arn"))
      .addColumn("version", "integer", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("status", "text", (c) => c.notNull())
      .addColumn("state_reason", "text")
      .addColumn("configuration", "text", (c) => c.notNull())
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .addColumn("updated_at", "bigint", (c) => c.notNull())
      .addPrimaryKeyConstraint("image_versions_pk", ["image_arn", "version"])
      .execute();

    await db.schema
      .createTable("builds")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("image_arn", "text", (c) => c.notNull())
      .addColumn("version", "integer", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("state_reason", "text")
      .addColumn("architecture", "text", (c) => c.notNull())
      .addColumn("chipset", "text", (c) => c.notNull())
      .addColumn("chipset_generation", "text", (c) => c.notNull())
      .addColumn("memory_snapshot_bytes", "bigint")
      .addColumn("code_install_bytes", "bigint")
      .addColumn("disk_snapshot_bytes", "bigint")
      .addColumn("created_at", "bigint", (c) => c.notNull())
      .addForeignKeyConstraint("builds_version", ["image_arn", "version"], "image_versions", ["image_arn", "version"])
      .execute();
    await db.schema.createIndex("builds_by_version").on("builds").columns(["image_arn", "version"]).execute();

    await db.schema
      .createTable("microvms")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("label", "text", (c) => c.notNull().unique())
      .addColumn("generation", "integer", (c) => c.notNull())
      .addColumn("image_arn", "text", (c) => c.notNull())
      .addColumn("image_version", "integer", (c) => c.notNull())
      .addColumn("template_id", "text", (c) => c.notNull())
      .addColumn("spec", "text", (c) => c.notNull())
      .addColumn("started_at", "bigint", (c) => c.notNull())
      .addColumn("deadline", "bigint", (c) => c.notNull())
      .addColumn("last_activity_at", "bigint", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("run_hook_payload", "text")
      .addColumn("resuming", "integer", (c) => c.notNull())
      .addColumn("expires_at", "bigint")
      .addColumn("reason", "text")
      .addColumn("terminate_hook", "integer", (c) => c.notNull())
      .addColumn("terminated_at", "bigint")
      .execute();
    await db.schema
      .createIndex("microvms_newest_first")
      .on("microvms")
      .columns(["account_id", "started_at", "id"])
      .execute();
    await db.schema.createIndex("microvms_by_state").on("microvms").column("state").execute();

    await db.schema
      .createTable("receipts")
      .addColumn("subject", "text", (c) => c.notNull())
      .addColumn("ordinal", "integer", (c) => c.notNull())
      .addColumn("receipt", "text", (c) => c.notNull())
      .addPrimaryKeyConstraint("receipts_pk", ["subject", "ordinal"])
      .execute();
  },
};
