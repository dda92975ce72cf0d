import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

const DEFAULT_MEMORY_MIB = 2048;

export const quotas: Migration = {
  async up(db: Kysely<never>): Promise<void> {
    await db.schema
      .createTable("account_quotas")
      .addColumn("account_id", "text", (c) => c.notNull())
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("value", "bigint")
      .addPrimaryKeyConstraint("account_quotas_pk", ["account_id", "name"])
      .execute();
    await db.schema.createIndex("builds_by_state").on("builds").column("state").execute();

    // Microvms, and what can be forked, say from now on how much memory they were launched with.
    const memory = new Map<string, number>();
    const versions = await sql<{ image_arn: string; version: number; configuration: string }>`
      select image_arn, version, configuration from image_versions`.execute(db);
    for (const row of versions.rows) {
      const { memoryMib } = JSON.parse(row.configuration) as { memoryMib: number };
      memory.set(`${row.image_arn} ${row.version}`, memoryMib);
    }
    for (const table of ["microvms", "checkpoints"]) {
      const { rows } = await sql<{ id: string; image_arn: string; image_version: number; spec: string }>`
        select id, image_arn, image_version, spec from ${sql.table(table)}`.execute(db);
      for (const row of rows) {
        // A checkpoint outlives its image's version: then nobody knows any more.
        const memoryMib = memory.get(`${row.image_arn} ${row.image_version}`) ?? DEFAULT_MEMORY_MIB;
        const spec = JSON.stringify({ memoryMib, ...(JSON.parse(row.spec) as object) });
        await sql`update ${sql.table(table)} set spec = ${spec} where id = ${row.id}`.execute(db);
      }
    }
  },
};
