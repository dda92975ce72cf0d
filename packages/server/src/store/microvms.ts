import type { Kysely } from "kysely";
import { holdCheckpoint } from "./checkpoints.ts";
import { StaleWriteError } from "./errors.ts";
import { forgetTokens } from "./idempotency-tokens.ts";
import { fromJson } from "./json.ts";
import type { Microvm, MicrovmChange, MicrovmFilter, MicrovmSpec, MicrovmState } from "./microvm.ts";
import { newestFirst, type Position } from "./newest-first.ts";
import { appendReceipt } from "./receipts.ts";
import type { MicrovmRow, Schema } from "./schema.ts";

export class Microvms {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /**
   * Within a transaction, when it is a fork that starts.
   * @throws CheckpointUnavailableError when what it is forked from is not AVAILABLE
   */
  async insert(vm: Microvm): Promise<void> {
    if (vm.state === "PENDING" && vm.fork) await holdCheckpoint(this.#db, vm.fork.checkpointId);
    await this.#db.insertInto("microvms").values(toRow(vm)).execute();
  }

  async find(id: string): Promise<Microvm | undefined> {
    const row = await this.#db.selectFrom("microvms").selectAll().where("id", "=", id).executeTakeFirst();
    return row && fromRow(row);
  }

  /** All that are not TERMINATED. */
  async live(): Promise<Microvm[]> {
    const rows = await this.#db
      .selectFrom("microvms")
      .selectAll()
      .where("state", "in", ["PENDING", "RUNNING", "SUSPENDING", "SUSPENDED", "TERMINATING"])
      .execute();
    return rows.map(fromRow);
  }

  /** Newest first; at most `limit` of those behind `after`. Stable while microvms come and change. */
  async page(filter: MicrovmFilter, after: Position | undefined, limit: number): Promise<Microvm[]> {
    let query = this.#db.selectFrom("microvms").selectAll().where("account_id", "=", filter.accountId);
    if (filter.imageArn !== undefined) query = query.where("image_arn", "=", filter.imageArn);
    if (filter.imageVersion !== undefined) query = query.where("image_version", "=", filter.imageVersion);
    return (await newestFirst(query, ["started_at", "id"], after, limit)).map(fromRow);
  }

  /**
   * Writes the change and returns the microvm with its new generation.
   * @throws StaleWriteError when the row is not at the generation that `next` carries; nothing is written then.
   * @throws CheckpointUnavailableError when it is to be rolled back to a checkpoint that is not AVAILABLE
   */
  async update({ next, receipt }: MicrovmChange): Promise<Microvm> {
    const written: Microvm = { ...next, generation: next.generation + 1 };
    // What never changes is not written again: each index over it would be, too.
    const { id, account_id, label, image_arn, image_version, started_at, ...columns } = toRow(written);
    await this.#db.transaction().execute(async (trx) => {
      if (written.state === "SUSPENDED" && written.rollbackTo !== null) await holdCheckpoint(trx, written.rollbackTo);
      const { numUpdatedRows } = await trx
        .updateTable("microvms")
        .set(columns)
        .where("id", "=", id)
        .where("generation", "=", next.generation)
        .executeTakeFirst();
      if (numUpdatedRows !== 1n) throw new StaleWriteError(`microvm ${id}`, next.generation);
      if (receipt) await appendReceipt(trx, id, receipt);
    });
    return written;
  }

  /** Ids of TERMINATED microvms that ended before and have no checkpoints, the oldest first. */
  async endedBefore(at: Date, limit: number): Promise<string[]> {
    const rows = await this.#db
      .selectFrom("microvms")
      .select("id")
      .where("terminated_at", "<", at.getTime())
      .where("state", "=", "TERMINATED")
      .where((e) =>
        e.not(
          e.exists(
            e.selectFrom("checkpoints").select("checkpoints.id").whereRef("checkpoints.microvm_id", "=", "microvms.id"),
          ),
        ),
      )
      .orderBy("terminated_at")
      .limit(limit)
      .execute();
    return rows.map(({ id }) => id);
  }

  /** Forgets a TERMINATED microvm, with its receipts and the client token that made it. */
  async forget(id: string): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      const { numDeletedRows } = await trx
        .deleteFrom("microvms")
        .where("id", "=", id)
        .where("state", "=", "TERMINATED")
        .executeTakeFirst();
      if (numDeletedRows === 0n) return;
      await trx.deleteFrom("receipts").where("subject", "=", id).execute();
      await forgetTokens(trx, id);
    });
  }

  /** When each microvm was last used, coarsely; not a change of state, so the generations stay. */
  async recordActivity(activity: ReadonlyMap<string, Date>): Promise<void> {
    if (activity.size === 0) return;
    await this.#db.transaction().execute(async (trx) => {
      for (const [id, at] of activity)
        await trx
          .updateTable("microvms")
          .set({ last_activity_at: at.getTime() })
          .where("id", "=", id)
          .where("last_activity_at", "<", at.getTime())
          .execute();
    });
  }
}

const NO_STATE_DATA = {
  run_hook_payload: null,
  resuming: 0,
  rollback_to: null,
  expires_at: null,
  reason: null,
  terminate_hook: 0,
  terminated_at: null,
} as const;

function toRow(vm: Microvm): MicrovmRow {
  return {
    id: vm.id,
    account_id: vm.accountId,
    label: vm.label,
    generation: vm.generation,
    image_arn: vm.imageArn,
    image_version: vm.imageVersion,
    template_id: vm.templateId,
    spec: JSON.stringify(vm.spec),
    started_at: vm.startedAt.getTime(),
    deadline: vm.deadline,
    last_activity_at: vm.lastActivityAt.getTime(),
    checkpoint_id: vm.fork?.checkpointId ?? null,
    origin_microvm_id: vm.fork?.microvmId ?? null,
    rolled_back_to: vm.rolledBackTo,
    state: vm.state,
    ...NO_STATE_DATA,
    ...stateColumns(vm),
  };
}

function stateColumns(vm: MicrovmState): Partial<MicrovmRow> {
  switch (vm.state) {
    case "PENDING":
      return { run_hook_payload: vm.runHookPayload };
    case "RUNNING":
      return { reason: vm.reason };
    case "SUSPENDING":
      return {};
    case "SUSPENDED":
      return { resuming: vm.resuming ? 1 : 0, rollback_to: vm.rollbackTo, expires_at: vm.expiresAt };
    case "TERMINATING":
      return { reason: vm.reason, terminate_hook: vm.hook ? 1 : 0 };
    case "TERMINATED":
      return { reason: vm.reason, terminated_at: vm.terminatedAt.getTime() };
    default:
      return vm satisfies never;
  }
}

function fromRow(row: MicrovmRow): Microvm {
  return {
    id: row.id,
    accountId: row.account_id,
    label: row.label,
    generation: row.generation,
    imageArn: row.image_arn,
    imageVersion: row.image_version,
    templateId: row.template_id,
    spec: fromJson<MicrovmSpec>(row.spec),
    startedAt: new Date(row.started_at),
    deadline: row.deadline,
    lastActivityAt: new Date(row.last_activity_at),
    fork:
      row.checkpoint_id !== null && row.origin_microvm_id !== null
        ? { checkpointId: row.checkpoint_id, microvmId: row.origin_microvm_id }
        : null,
    rolledBackTo: row.rolled_back_to,
    ...stateOf(row),
  };
}

function stateOf(row: MicrovmRow): MicrovmState {
  switch (row.state) {
    case "PENDING":
      return { state: "PENDING", runHookPayload: row.run_hook_payload };
    case "RUNNING":
      return { state: "RUNNING", reason: row.reason };
    case "SUSPENDING":
      return { state: "SUSPENDING" };
    case "SUSPENDED":
      return {
        state: "SUSPENDED",
        resuming: row.resuming === 1,
        rollbackTo: row.rollback_to,
        expiresAt: row.expires_at,
      };
    case "TERMINATING":
      return { state: "TERMINATING", reason: row.reason ?? "", hook: row.terminate_hook === 1 };
    case "TERMINATED":
      return { state: "TERMINATED", reason: row.reason ?? "", terminatedAt: new Date(row.terminated_at ?? 0) };
    default:
      throw new Error(`microvm ${row.id} is in the unknown state ${row.state}`);
  }
}
