import { Kysely, sql } from "kysely";
import { TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { createPrivate, takeStoreLock } from "./lock.ts";
import { migrate } from "./migrate.ts";
import type { Schema } from "./schema.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import { Store } from "./store.ts";

/**
 * Opens the database file, which this process alone uses from now on, and brings its schema up to date. After an
 * unclean end it is checked first. `close()` the store to release it.
 * @throws TorporError `conflict` naming the pid that has it open; `unavailable` when it is damaged or newer than this
 * program.
 */
export async function openStore(path: string, log: Log): Promise<Store> {
  const lock = takeStoreLock(path);
  let db: Kysely<Schema> | undefined;
  try {
    createPrivate(path);
    db = new Kysely<Schema>({ dialect: sqliteDialect(path) });
    if (lock.afterUncleanExit) await check(db, path, log);
    await migrate(db, log);
  } catch (err) {
    await db?.destroy();
    lock.release("unclean");
    throw err;
  }
  const opened = db;
  return new Store(opened, async () => {
    await opened.destroy();
    lock.release("clean");
  });
}

async function check(db: Kysely<Schema>, path: string, log: Log): Promise<void> {
  const { rows } = await sql<{ quick_check: string }>`PRAGMA quick_check`.execute(db);
  const findings = rows.map((row) => row.quick_check);
  if (findings.length === 1 && findings[0] === "ok") {
    log.info("database checked after an unclean exit");
    return;
  }
  throw new TorporError(
    "unavailable",
    `${path} is damaged (${findings.slice(0, 3).join("; ")}). Put a backup in its place, or recover it with sqlite3 ".recover".`,
  );
}
