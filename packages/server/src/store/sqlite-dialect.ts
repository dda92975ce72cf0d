import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";
import { isBusy, storeError } from "./errors.ts";

/** How long a statement waits for another process's lock (a backup, a shell) before it fails as unavailable. */
const BUSY_TIMEOUT_MS = 5000;
const BUSY_PAUSE_MS = 20;
/** Statements kept prepared; the store has far fewer distinct ones. */
const STATEMENTS_KEPT = 256;

/**
 * Kysely over the SQLite that is built into Node: WAL, every commit on disk before it is acknowledged, foreign keys
 * enforced. Waiting for a lock does not block the event loop.
 */
export function sqliteDialect(path: string): Dialect {
  return {
    createAdapter: () => new TransactionalAdapter(),
    createDriver: () => new SqliteFileDriver(path),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

/** SQLite's DDL is transactional: a crash in a migration leaves the schema as it was. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

class SqliteFileDriver implements Driver {
  readonly #path: string;
  #connection: SqliteConnection | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async init(): Promise<void> {
    try {
      const db = new DatabaseSync(this.#path, { enableForeignKeyConstraints: true, timeout: 0 });
      // secure_delete: a run hook's payload is not to be found in free pages after its row has forgotten it.
      db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON");
      this.#connection = new SqliteConnection(db);
    } catch (err) {
      throw storeError(err);
    }
  }

  /** Kysely hands the one connection to one user at a time (adapter: no multiple connections). */
  async acquireConnection(): Promise<DatabaseConnection> {
    if (!this.#connection) throw new Error("the store is not open");
    return this.#connection;
  }

  /** Takes the write lock at once, so that no statement inside the transaction can find the database busy. */
  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw("begin immediate"));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw("commit"));
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw("rollback"));
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    this.#connection?.close();
    this.#connection = undefined;
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const deadline = performance.now() + BUSY_TIMEOUT_MS;
    for (;;) {
      try {
        return this.#execute<R>(query);
      } catch (err) {
        if (!isBusy(err) || performance.now() >= deadline) throw storeError(err);
      }
      await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
    }
  }

  // biome-ignore lint/correctness/useYield: Kysely's interface has it, the store has no result that needs it
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error("the SQLite driver does not stream");
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
  }

  #execute<R>(query: CompiledQuery): QueryResult<R> {
    const statement = this.#prepare(query.sql);
    // Kysely's parameters are what the store's own code put there: texts, numbers, null.
    const parameters = query.parameters as readonly SQLInputValue[];
    if (statement.columns().length > 0) return { rows: statement.all(...parameters) as R[] };
    const { changes } = statement.run(...parameters);
    return { rows: [], numAffectedRows: BigInt(changes) };
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known) return known;
    const statement = this.#db.prepare(sql);
    if (this.#statements.size >= STATEMENTS_KEPT) this.#statements.clear();
    this.#statements.set(sql, statement);
    return statement;
  }
}
