import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

export const imageLifecycle: Migration = {
  async up(db: Kysely<never>): Promise<void> {
    // Until now an image had its first version and no other.
    await db.schema
      .alterTable("images")
      .addColumn("last_version", "integer", (c) => c.notNull().defaultTo(1))
      .execute();
    await db.schema
      .createIndex("images_newest_first")
      .on("images")
      .columns(["account_id", "created_at", "arn"])
      .execute();
    await db.schema
      .createTable("deleted_images")
      .addColumn("arn", "text", (c) => c.primaryKey())
      .addColumn("deleted_at", "bigint", (c) => c.notNull())
      .execute();
    await db.schema.createIndex("microvms_by_image").on("microvms").columns(["image_arn", "image_version"]).execute();

    await db.schema.alterTable("idempotency_tokens").addColumn("resource", "text").execute();
    await db.schema.createIndex("idempotency_tokens_by_resource").on("idempotency_tokens").column("resource").execute();
    const { rows } = await sql<{ account_id: string; token: string; response: string }>`
      select account_id, token, response from idempotency_tokens where operation = 'CreateMicrovmImage'`.execute(db);
    for (const { account_id, token, response } of rows) {
      const { imageArn } = JSON.parse(response) as { imageArn: string };
      await sql`update idempotency_tokens set resource = ${imageArn} where account_id = ${account_id}
        and operation = 'CreateMicrovmImage' and token = ${token}`.execute(db);
    }
  },
};
