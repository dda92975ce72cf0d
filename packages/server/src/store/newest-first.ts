import { type SelectQueryBuilder, sql } from "kysely";
import type { Schema } from "./schema.ts";

/** Where an item stands in a list that has the newest first. */
export interface Position {
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Tells those of one moment apart. */
  readonly key: string;
}

/** The rows of such a list, at most `limit` of those behind `after`. Stable while rows come, change and go. */
export async function newestFirst<T extends keyof Schema, O>(
  query: SelectQueryBuilder<Schema, T, O>,
  [time, key]: readonly [keyof Schema[T] & string, keyof Schema[T] & string],
  after: Position | undefined,
  limit: number,
): Promise<O[]> {
  const [timeColumn, keyColumn] = [sql.ref(time), sql.ref(key)];
  const behind = after ? sql<boolean>`(${timeColumn}, ${keyColumn}) < (${after.time}, ${after.key})` : undefined;
  return (await (behind ? query.where(behind) : query)
    .orderBy(timeColumn, "desc")
    .orderBy(keyColumn, "desc")
    .limit(limit)
    .execute()) as O[];
}
