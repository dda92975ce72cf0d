import type { Receipt } from "@torpor/protocol";
import type { Kysely } from "kysely";
import { fromJson } from "./json.ts";
import type { Schema } from "./schema.ts";

/** A microvm that is suspended and resumed all day long keeps its newest receipts only. */
const KEPT_PER_SUBJECT = 100;

export class Receipts {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** Oldest first. The subject is a microvm's id or a build's. */
  async of(subject: string): Promise<Receipt[]> {
    const rows = await this.#db
      .selectFrom("receipts")
      .select("receipt")
      .where("subject", "=", subject)
      .orderBy("ordinal")
      .execute();
    return rows.map((row) => fromJson<Receipt>(row.receipt));
  }
}

/** Inside the transaction that writes what the receipt is about. */
export async function appendReceipt(db: Kysely<Schema>, subject: string, receipt: Receipt): Promise<void> {
  const newest = await db
    .selectFrom("receipts")
    .select((e) => e.fn.max("ordinal").as("ordinal"))
    .where("subject", "=", subject)
    .executeTakeFirst();
  const ordinal = (newest?.ordinal ?? 0) + 1;
  await db
    .insertInto("receipts")
    .values({ subject, ordinal, receipt: JSON.stringify(receipt) })
    .execute();
  await db
    .deleteFrom("receipts")
    .where("subject", "=", subject)
    .where("ordinal", "<=", ordinal - KEPT_PER_SUBJECT)
    .execute();
}
