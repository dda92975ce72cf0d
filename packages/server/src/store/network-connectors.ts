import type { Kysely } from "kysely";
import { StaleWriteError } from "./errors.ts";
import { forgetTokens } from "./idempotency-tokens.ts";
import { fromJson } from "./json.ts";
import type { NetworkConnector } from "./network-connector.ts";
import { newestFirst, type Position } from "./newest-first.ts";
import type { NetworkConnectorRow, Schema } from "./schema.ts";

export class NetworkConnectors {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** `false`, and nothing written, when the account has one of that name. */
  async insert(connector: NetworkConnector): Promise<boolean> {
    const { numInsertedOrUpdatedRows } = await this.#db
      .insertInto("network_connectors")
      .values(toRow(connector))
      .onConflict((c) => c.columns(["account_id", "name"]).doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  }

  /** Those included that are being deleted. In the transaction that inserted one it holds as `ImageCounts` do. */
  async count(accountId: string): Promise<number> {
    const row = await this.#db
      .selectFrom("network_connectors")
      .select((e) => e.fn.countAll().as("count"))
      .where("account_id", "=", accountId)
      .executeTakeFirstOrThrow();
    return Number(row.count);
  }

  /** By id or by name. */
  async find(accountId: string, idOrName: string): Promise<NetworkConnector | undefined> {
    const row = await this.#db
      .selectFrom("network_connectors")
      .selectAll()
      .where("account_id", "=", accountId)
      .where((e) => e.or([e("id", "=", idOrName), e("name", "=", idOrName)]))
      .orderBy((e) => e.case().when("id", "=", idOrName).then(0).else(1).end())
      .limit(1)
      .executeTakeFirst();
    return row && fromRow(row);
  }

  /** Newest first; at most `limit` of those behind `after`. Stable while connectors come, change and go. */
  async page(
    filter: { readonly accountId: string; readonly state?: string },
    after: Position | undefined,
    limit: number,
  ): Promise<NetworkConnector[]> {
    let query = this.#db.selectFrom("network_connectors").selectAll().where("account_id", "=", filter.accountId);
    if (filter.state !== undefined) query = query.where("state", "=", filter.state);
    return (await newestFirst(query, ["created_at", "id"], after, limit)).map(fromRow);
  }

  /** Of all accounts: what a server that starts has to finish. */
  async unfinished(): Promise<NetworkConnector[]> {
    const rows = await this.#db
      .selectFrom("network_connectors")
      .selectAll()
      .where((e) => e.or([e("state", "in", ["PENDING", "DELETING"]), e("update_status", "=", "InProgress")]))
      .execute();
    return rows.map(fromRow);
  }

  /**
   * Writes the change and returns the connector with its new generation.
   * @throws StaleWriteError when the row is not at the generation that `next` carries, or gone
   */
  async update(next: NetworkConnector): Promise<NetworkConnector> {
    const written = { ...next, generation: next.generation + 1 };
    const { id, ...columns } = toRow(written);
    const { numUpdatedRows } = await this.#db
      .updateTable("network_connectors")
      .set(columns)
      .where("id", "=", id)
      .where("generation", "=", next.generation)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) throw new StaleWriteError(`network connector ${id}`, next.generation);
    return written;
  }

  /** One change after another. @returns the tags as they are then; undefined when there is no such connector */
  async changeTags(
    accountId: string,
    id: string,
    change: (before: NetworkConnector["tags"], state: NetworkConnector["state"]) => NetworkConnector["tags"],
  ): Promise<NetworkConnector["tags"] | undefined> {
    return await this.#db.transaction().execute(async (trx) => {
      const row = await lockRow(trx, id);
      if (row?.account_id !== accountId) return undefined;
      const before = fromRow(row);
      const tags = change(before.tags, before.state);
      const values = { tags: JSON.stringify(tags), generation: row.generation + 1 };
      await trx.updateTable("network_connectors").set(values).where("id", "=", id).execute();
      return tags;
    });
  }

  /**
   * Brings what is on its way to its end, whatever else was changed meanwhile: PENDING → ACTIVE, InProgress → Successful,
   * DELETING → gone with the client tokens that are kept with it.
   */
  async settle(id: string): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      const row = await lockRow(trx, id);
      if (!row) return;
      if (row.state === "DELETING") {
        await trx.deleteFrom("network_connectors").where("id", "=", id).execute();
        return await forgetTokens(trx, id);
      }
      if (row.state !== "PENDING" && row.update_status !== "InProgress") return;
      const update_status = row.update_status && "Successful";
      const values = { state: "ACTIVE", update_status, generation: row.generation + 1 };
      await trx.updateTable("network_connectors").set(values).where("id", "=", id).execute();
    });
  }
}

/** A write that changes nothing: whoever comes at the same time waits until the transaction ends. */
async function lockRow(trx: Kysely<Schema>, id: string): Promise<NetworkConnectorRow | undefined> {
  return await trx
    .updateTable("network_connectors")
    .set((e) => ({ state: e.ref("state") }))
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
}

function toRow(c: NetworkConnector): NetworkConnectorRow {
  return {
    id: c.id,
    account_id: c.accountId,
    name: c.name,
    generation: c.generation,
    state: c.state,
    configuration: JSON.stringify(c.configuration),
    operator_role: c.operatorRole,
    update_status: c.update?.status ?? null,
    update_reason: c.update?.reason ?? null,
    tags: JSON.stringify(c.tags),
    created_at: c.createdAt.getTime(),
    modified_at: c.modifiedAt.getTime(),
  };
}

function fromRow(row: NetworkConnectorRow): NetworkConnector {
  return {
    id: row.id,
    accountId: row.account_id,
    name: row.name,
    generation: row.generation,
    state: row.state as NetworkConnector["state"],
    configuration: fromJson(row.configuration),
    operatorRole: row.operator_role,
    update:
      row.update_status === null
        ? null
        : {
            status: row.update_status as NonNullable<NetworkConnector["update"]>["status"],
            reason: row.update_reason ?? "",
          },
    tags: fromJson(row.tags),
    createdAt: new Date(row.created_at),
    modifiedAt: new Date(row.modified_at),
  };
}
