import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";

/**
 * How many there are now. Asked in the transaction that made one more, the answer holds until that ends: SQLite lets
 * one writer in at a time.
 */
export class ImageCounts {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** Those included that are being deleted: their names are still taken. */
  async images(accountId: string): Promise<number> {
    const row = await this.#db
      .selectFrom("images")
      .select((e) => e.fn.countAll().as("count"))
      .where("account_id", "=", accountId)
      .executeTakeFirstOrThrow();
    return Number(row.count);
  }

  /** Failed ones and those included that are being deleted. */
  async versions(imageArn: string): Promise<number> {
    const row = await this.#db
      .selectFrom("image_versions")
      .select((e) => e.fn.countAll().as("count"))
      .where("image_arn", "=", imageArn)
      .executeTakeFirstOrThrow();
    return Number(row.count);
  }

  /** Of the account's image that has most. */
  async mostVersions(accountId: string): Promise<number> {
    const row = await this.#db
      .selectFrom("image_versions")
      .innerJoin("images", "images.arn", "image_versions.image_arn")
      .select((e) => e.fn.countAll().as("count"))
      .where("images.account_id", "=", accountId)
      .groupBy("image_versions.image_arn")
      .orderBy("count", "desc")
      .limit(1)
      .executeTakeFirst();
    return Number(row?.count ?? 0);
  }

  async unfinishedBuilds(accountId: string): Promise<number> {
    const row = await this.#db
      .selectFrom("builds")
      .innerJoin("images", "images.arn", "builds.image_arn")
      .select((e) => e.fn.countAll().as("count"))
      .where("images.account_id", "=", accountId)
      .where("builds.state", "in", ["PENDING", "IN_PROGRESS"])
      .executeTakeFirstOrThrow();
    return Number(row.count);
  }
}
