import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";

export interface IdempotencyKey {
  readonly accountId: string;
  readonly operation: string;
  readonly token: string;
}
/** What an operation answered when the token was first seen. */
export interface RecordedAnswer {
  readonly requestDigest: string;
  readonly response: string;
}

export class IdempotencyTokens {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async find(key: IdempotencyKey): Promise<RecordedAnswer | undefined> {
    const row = await this.#db
      .selectFrom("idempotency_tokens")
      .select(["request_digest", "response"])
      .where("account_id", "=", key.accountId)
      .where("operation", "=", key.operation)
      .where("token", "=", key.token)
      .executeTakeFirst();
    return row && { requestDigest: row.request_digest, response: row.response };
  }

  /**
   * The token is forgotten together with the `resource` that its request made, if it says which.
   * `false`, and nothing written, when the token is known already.
   */
  async insert(key: IdempotencyKey, answer: RecordedAnswer, at: Date, resource: string | null): Promise<boolean> {
    const { numInsertedOrUpdatedRows } = await this.#db
      .insertInto("idempotency_tokens")
      .values({
        account_id: key.accountId,
        operation: key.operation,
        token: key.token,
        request_digest: answer.requestDigest,
        response: answer.response,
        created_at: at.getTime(),
        resource,
      })
      .onConflict((c) => c.columns(["account_id", "operation", "token"]).doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  }
}

/** Inside the transaction in which the resource goes. */
export async function forgetTokens(trx: Kysely<Schema>, resource: string): Promise<void> {
  await trx.deleteFrom("idempotency_tokens").where("resource", "=", resource).execute();
}
