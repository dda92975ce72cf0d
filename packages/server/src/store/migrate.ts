import type { Kysely } from "kysely";
import { Migrator } from "kysely/migration";
import { messageOf, TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { MIGRATIONS } from "./migrations/all.ts";
import type { Schema } from "./schema.ts";

/**
 * Brings the schema up to date, all or nothing.
 * @throws TorporError `unavailable` when a newer Torpor has written the database, or a migration fails.
 */
export async function migrate(db: Kysely<Schema>, log: Log): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => ({ ...MIGRATIONS }) } });
  const { error, results = [] } = await migrator.migrateToLatest();
  if (error !== undefined)
    throw new TorporError(
      "unavailable",
      `The database's schema cannot be brought up to date (${messageOf(error)}). If a newer Torpor has used this data directory, run that version.`,
      { cause: error },
    );
  for (const { migrationName } of results) log.info({ migration: migrationName }, "database migrated");
}
