import type { Kysely } from "kysely";
import type { Checkpoint, CheckpointFilter, CheckpointOutcome, CheckpointState } from "./checkpoint.ts";
import { CheckpointUnavailableError, StaleWriteError } from "./errors.ts";
import { fromJson } from "./json.ts";
import type { MicrovmSpec } from "./microvm.ts";
import { newestFirst, type Position } from "./newest-first.ts";
import { appendReceipt } from "./receipts.ts";
import type { CheckpointRow, Schema } from "./schema.ts";

export class Checkpoints {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async insert(checkpoint: Checkpoint): Promise<void> {
    await this.#db.insertInto("checkpoints").values(toRow(checkpoint)).execute();
  }

  async find(id: string): Promise<Checkpoint | undefined> {
    const row = await this.#db.selectFrom("checkpoints").selectAll().where("id", "=", id).executeTakeFirst();
    return row && fromRow(row);
  }

  /** Newest first, internal ones left out; at most `limit` of those behind `after`. Stable while they come and go. */
  async page(filter: CheckpointFilter, after: Position | undefined, limit: number): Promise<Checkpoint[]> {
    let query = this.#db
      .selectFrom("checkpoints")
      .selectAll()
      .where("account_id", "=", filter.accountId)
      .where("internal", "=", 0);
    if (filter.microvmId !== undefined) query = query.where("microvm_id", "=", filter.microvmId);
    return (await newestFirst(query, ["created_at", "id"], after, limit)).map(fromRow);
  }

  /** The state of every checkpoint, for the reconciler. */
  async states(): Promise<ReadonlyMap<string, CheckpointFacts>> {
    const rows = await this.#db.selectFrom("checkpoints").select(["id", "microvm_id", "internal", "state"]).execute();
    return new Map(
      rows.map((row) => [row.id, { microvmId: row.microvm_id, internal: row.internal === 1, state: stateName(row) }]),
    );
  }

  /**
   * CREATING → AVAILABLE or FAILED; what it cost becomes a receipt of its microvm.
   * @throws StaleWriteError when it is not CREATING any more
   */
  async settle(id: string, outcome: CheckpointOutcome): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      const settled = await trx
        .updateTable("checkpoints")
        .set(
          outcome.kind === "made"
            ? { state: "AVAILABLE", memory_bytes: outcome.memoryBytes, disk_bytes: outcome.diskBytes }
            : { state: "FAILED", reason: outcome.reason },
        )
        .where("id", "=", id)
        .where("state", "=", "CREATING")
        .returning("microvm_id")
        .executeTakeFirst();
      if (!settled) throw new StaleWriteError(`checkpoint ${id}`, 1);
      if (outcome.kind === "made") await appendReceipt(trx, settled.microvm_id, outcome.receipt);
    });
  }

  /** AVAILABLE → FAILED: its host has lost it. Nothing happens in another state. */
  async lose(id: string, reason: string): Promise<void> {
    await this.#db
      .updateTable("checkpoints")
      .set({ state: "FAILED", reason, memory_bytes: null, disk_bytes: null })
      .where("id", "=", id)
      .where("state", "=", "AVAILABLE")
      .execute();
  }

  /**
   * → DELETING, unless a microvm is to be rolled back to it or a fork of it has not started yet. No such microvm can be
   * written from then on.
   */
  async beginDeletion(id: string): Promise<"deleting" | "in use" | "creating" | "gone"> {
    return await this.#db.transaction().execute(async (trx) => {
      // The row is locked before its users are looked for, by a write that changes nothing (see holdCheckpoint).
      const row = await trx
        .updateTable("checkpoints")
        .set((e) => ({ state: e.ref("state") }))
        .where("id", "=", id)
        .returning("state")
        .executeTakeFirst();
      if (!row) return "gone";
      if (row.state === "CREATING") return "creating";
      const user = await trx
        .selectFrom("microvms")
        .select("id")
        .where((e) =>
          e.or([e("rollback_to", "=", id), e.and([e("checkpoint_id", "=", id), e("state", "=", "PENDING")])]),
        )
        .limit(1)
        .executeTakeFirst();
      if (user) return "in use";
      await trx.updateTable("checkpoints").set({ state: "DELETING" }).where("id", "=", id).execute();
      return "deleting";
    });
  }

  /** Forgets one of which nothing is left on a host. */
  async remove(id: string): Promise<void> {
    await this.#db
      .deleteFrom("checkpoints")
      .where("id", "=", id)
      .where("state", "in", ["DELETING", "FAILED"])
      .execute();
  }
}

export interface CheckpointFacts {
  readonly microvmId: string;
  readonly internal: boolean;
  readonly state: Checkpoint["state"];
}

/**
 * Keeps the checkpoint AVAILABLE until the transaction ends, by a write that changes nothing: whoever wants to delete
 * it meanwhile waits, on databases with several writers too.
 * @throws CheckpointUnavailableError when it is not AVAILABLE
 */
export async function holdCheckpoint(trx: Kysely<Schema>, id: string): Promise<void> {
  const { numUpdatedRows } = await trx
    .updateTable("checkpoints")
    .set({ state: "AVAILABLE" })
    .where("id", "=", id)
    .where("state", "=", "AVAILABLE")
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) throw new CheckpointUnavailableError(id);
}

function toRow(checkpoint: Checkpoint): CheckpointRow {
  return {
    id: checkpoint.id,
    account_id: checkpoint.accountId,
    microvm_id: checkpoint.microvmId,
    name: checkpoint.name,
    internal: checkpoint.internal ? 1 : 0,
    image_arn: checkpoint.imageArn,
    image_version: checkpoint.imageVersion,
    template_id: checkpoint.templateId,
    spec: JSON.stringify(checkpoint.spec),
    parent_checkpoint_id: checkpoint.parentCheckpointId,
    created_at: checkpoint.createdAt.getTime(),
    state: checkpoint.state,
    reason: checkpoint.state === "FAILED" ? checkpoint.reason : null,
    memory_bytes: checkpoint.state === "AVAILABLE" ? checkpoint.memoryBytes : null,
    disk_bytes: checkpoint.state === "AVAILABLE" ? checkpoint.diskBytes : null,
  };
}

function fromRow(row: CheckpointRow): Checkpoint {
  return {
    id: row.id,
    accountId: row.account_id,
    microvmId: row.microvm_id,
    name: row.name,
    internal: row.internal === 1,
    imageArn: row.image_arn,
    imageVersion: row.image_version,
    templateId: row.template_id,
    spec: fromJson<MicrovmSpec>(row.spec),
    parentCheckpointId: row.parent_checkpoint_id,
    createdAt: new Date(row.created_at),
    ...stateOf(row),
  };
}

function stateOf(row: CheckpointRow): CheckpointState {
  const state = stateName(row);
  switch (state) {
    case "AVAILABLE":
      return { state, memoryBytes: row.memory_bytes ?? 0, diskBytes: row.disk_bytes ?? 0 };
    case "FAILED":
      return { state, reason: row.reason ?? "" };
    case "CREATING":
    case "DELETING":
      return { state };
    default:
      return state satisfies never;
  }
}

/** The cast is sound for the reason that json.ts gives. */
const stateName = (row: Pick<CheckpointRow, "state">): Checkpoint["state"] => row.state as Checkpoint["state"];
