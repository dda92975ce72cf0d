import type { Kysely } from "kysely";
import { StaleWriteError } from "./errors.ts";
import {
  type Build,
  type BuildOutcome,
  type Image,
  type ImageFilter,
  type ImageState,
  type ImageVersion,
  SETTLED_IMAGE_STATES,
  type StatusOutcome,
} from "./image.ts";
import { buildOf, buildRow, imageOf, imageRow, versionOf, versionRow } from "./image-rows.ts";
import { newestFirst, type Position } from "./newest-first.ts";
import { appendReceipt } from "./receipts.ts";
import type { BuildRow, Schema } from "./schema.ts";

export class Images {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** A new image with its first version and build. `false`, and nothing written, when the ARN is taken. */
  async insert(image: Image, version: ImageVersion, build: Build): Promise<boolean> {
    const { numInsertedOrUpdatedRows } = await this.#db
      .insertInto("images")
      .values(imageRow(image))
      .onConflict((c) => c.column("arn").doNothing())
      .executeTakeFirst();
    if (numInsertedOrUpdatedRows !== 1n) return false;
    await this.#db.deleteFrom("deleted_images").where("arn", "=", image.arn).execute();
    await this.insertVersion(version, build);
    return true;
  }

  /** A new version with its first build, of an image that is there. */
  async insertVersion(version: ImageVersion, build: Build): Promise<void> {
    await this.#db.insertInto("image_versions").values(versionRow(version)).execute();
    await this.#db.insertInto("builds").values(buildRow(build)).execute();
  }

  /**
   * → UPDATING, with the next version's number as its last; that version is to be inserted in the same transaction.
   * Undefined, and nothing written, when the image is not there or something is being done to it.
   */
  async beginUpdate(arn: string, at: Date): Promise<Image | undefined> {
    const row = await this.#db
      .updateTable("images")
      .set((e) => ({
        state: "UPDATING",
        last_version: e("last_version", "+", 1),
        generation: e("generation", "+", 1),
        updated_at: at.getTime(),
      }))
      .where("arn", "=", arn)
      .where("state", "in", SETTLED_IMAGE_STATES)
      .returningAll()
      .executeTakeFirst();
    return row && imageOf(row);
  }

  /** One change after another. @returns the tags as they are then; undefined when there is no such image */
  async changeTags(
    arn: string,
    change: (before: Image["tags"], state: ImageState) => Image["tags"],
  ): Promise<Image["tags"] | undefined> {
    return await this.#db.transaction().execute(async (trx) => {
      const image = await lockImage(trx, arn);
      if (!image) return undefined;
      const tags = change(image.tags, image.state);
      await trx
        .updateTable("images")
        .set({ tags: JSON.stringify(tags) })
        .where("arn", "=", arn)
        .execute();
      return tags;
    });
  }

  async find(arn: string): Promise<Image | undefined> {
    const row = await this.#db.selectFrom("images").selectAll().where("arn", "=", arn).executeTakeFirst();
    return row && imageOf(row);
  }

  /** Newest first; at most `limit` of those behind `after`. Stable while images come, change and go. */
  async page(filter: ImageFilter, after: Position | undefined, limit: number): Promise<Image[]> {
    let query = this.#db.selectFrom("images").selectAll().where("account_id", "=", filter.accountId);
    const part = filter.nameFilter;
    // A name that has the part changes without it. LIKE would have to be told of %, _ and the case of letters.
    if (part !== undefined)
      query = query.where((e) => e(e.fn("replace", ["name", e.val(part), e.val("")]), "!=", e.ref("name")));
    return (await newestFirst(query, ["created_at", "arn"], after, limit)).map(imageOf);
  }

  /** Newest first; at most `limit` of those below `before`. */
  async versions(arn: string, before: number | undefined, limit: number): Promise<ImageVersion[]> {
    let query = this.#versions().where("image_arn", "=", arn);
    if (before !== undefined) query = query.where("version", "<", before);
    return (await query.orderBy("version", "desc").limit(limit).execute()).map(versionOf);
  }

  async findVersion(arn: string, version: number): Promise<ImageVersion | undefined> {
    const row = await this.#versions().where("image_arn", "=", arn).where("version", "=", version).executeTakeFirst();
    return row && versionOf(row);
  }

  /** The newest version that microvms can be launched from, or the given one if they can. */
  async findRunnable(arn: string, version?: number): Promise<ImageVersion | undefined> {
    let query = this.#versions()
      .where("image_arn", "=", arn)
      .where("state", "=", "SUCCESSFUL")
      .where("status", "=", "ACTIVE");
    if (version !== undefined) query = query.where("version", "=", version);
    const row = await query.orderBy("version", "desc").limit(1).executeTakeFirst();
    return row && versionOf(row);
  }

  /**
   * Keeps the version runnable until the transaction ends, by a write that changes nothing: whoever wants to switch it
   * off or delete it meanwhile waits, on databases with several writers too. `false` when it is not runnable any more.
   */
  async hold(arn: string, version: number): Promise<boolean> {
    const { numUpdatedRows } = await this.#db
      .updateTable("image_versions")
      .set({ status: "ACTIVE" })
      .where("image_arn", "=", arn)
      .where("version", "=", version)
      .where("state", "=", "SUCCESSFUL")
      .where("status", "=", "ACTIVE")
      .executeTakeFirst();
    return numUpdatedRows === 1n;
  }

  /** Switches a version on or off for launches. Nothing is written unless the outcome is `set`. */
  async setStatus(arn: string, version: number, status: ImageVersion["status"], at: Date): Promise<StatusOutcome> {
    return await this.#db.transaction().execute(async (trx): Promise<StatusOutcome> => {
      const image = await lockImage(trx, arn);
      if (!image) return { kind: "unknown" };
      if (!isSettled(image.state)) return { kind: "busy", state: image.state };
      const found = await new Images(trx).findVersion(arn, version);
      if (!found) return { kind: "unknown" };
      if (found.status === status) return { kind: "set", version: found };
      if (status === "ACTIVE" && found.state !== "SUCCESSFUL") return { kind: "unusable", state: found.state };
      await trx
        .updateTable("image_versions")
        .set({ status, updated_at: at.getTime() })
        .where("image_arn", "=", arn)
        .where("version", "=", version)
        .execute();
      await moveImage(trx, arn, image.state, at);
      return { kind: "set", version: { ...found, status, updatedAt: at } };
    });
  }

  #versions() {
    return this.#db.selectFrom("image_versions").selectAll();
  }

  /** Oldest first, then by id. */
  async builds(arn: string, version: number): Promise<Build[]> {
    const rows = await this.#db
      .selectFrom("builds")
      .selectAll()
      .where("image_arn", "=", arn)
      .where("version", "=", version)
      .orderBy("created_at")
      .orderBy("id")
      .execute();
    return rows.map(buildOf);
  }

  /** Of all images, oldest first: for a server that starts. */
  async unfinishedBuilds(): Promise<Build[]> {
    const rows = await this.#db
      .selectFrom("builds")
      .selectAll()
      .where("state", "in", ["PENDING", "IN_PROGRESS"])
      .orderBy("created_at")
      .orderBy("id")
      .execute();
    return rows.map(buildOf);
  }

  /**
   * PENDING → IN_PROGRESS, the version with it.
   * @throws StaleWriteError when the build is not PENDING any more.
   */
  async startBuild(build: Build, at: Date): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await this.#moveBuild(trx, build, ["PENDING"], { state: "IN_PROGRESS" });
      await trx
        .updateTable("image_versions")
        .set({ state: "IN_PROGRESS", updated_at: at.getTime() })
        .where("image_arn", "=", build.imageArn)
        .where("version", "=", build.version)
        .execute();
    });
  }

  /**
   * Ends a build and settles its version and image in the same breath: a version is ACTIVE only if all of it is there.
   * @throws StaleWriteError when the build has ended before.
   */
  async settleBuild(build: Build, outcome: BuildOutcome, at: Date): Promise<void> {
    const built = outcome.kind === "built";
    await this.#db.transaction().execute(async (trx) => {
      await this.#moveBuild(
        trx,
        build,
        ["PENDING", "IN_PROGRESS"],
        built
          ? {
              state: "SUCCESSFUL",
              memory_snapshot_bytes: outcome.snapshot.memoryBytes,
              code_install_bytes: outcome.snapshot.codeInstallBytes,
              disk_snapshot_bytes: outcome.snapshot.diskBytes,
            }
          : { state: "FAILED", state_reason: outcome.reason },
      );
      await trx
        .updateTable("image_versions")
        .set({
          state: built ? "SUCCESSFUL" : "FAILED",
          status: built ? "ACTIVE" : "INACTIVE",
          state_reason: built ? null : outcome.reason,
          updated_at: at.getTime(),
        })
        .where("image_arn", "=", build.imageArn)
        .where("version", "=", build.version)
        .execute();
      const image = await lockImage(trx, build.imageArn);
      if (!image) throw new Error(`build ${build.id} belongs to no image`);
      await moveImage(trx, build.imageArn, settled(image.state, built), at);
      if (built) await appendReceipt(trx, build.id, outcome.receipt);
    });
  }

  /**
   * Ends a build that came to nothing and has `again` take its place; its version waits once more.
   * @throws StaleWriteError when the build has ended before.
   */
  async retryBuild(build: Build, reason: string, again: Build, at: Date): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await this.#moveBuild(trx, build, ["PENDING", "IN_PROGRESS"], { state: "FAILED", state_reason: reason });
      await trx.insertInto("builds").values(buildRow(again)).execute();
      await trx
        .updateTable("image_versions")
        .set({ state: "PENDING", updated_at: at.getTime() })
        .where("image_arn", "=", build.imageArn)
        .where("version", "=", build.version)
        .execute();
    });
  }

  async #moveBuild(trx: Kysely<Schema>, build: Build, from: string[], change: Partial<BuildRow>): Promise<void> {
    const { numUpdatedRows } = await trx
      .updateTable("builds")
      .set(change)
      .where("id", "=", build.id)
      .where("state", "in", from)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) throw new StaleWriteError(`build ${build.id}`, build.version);
  }
}

function settled(state: ImageState, built: boolean): ImageState {
  const first = state === "CREATING" || state === "CREATE_FAILED";
  if (built) return first ? "CREATED" : "UPDATED";
  return first ? "CREATE_FAILED" : "UPDATE_FAILED";
}

/** Whether nothing is being done to an image in this state. */
export const isSettled = (state: ImageState): boolean => SETTLED_IMAGE_STATES.some((settled) => settled === state);

/** The image as it is, and as it stays until the transaction ends: whoever else wants to change it waits. */
export async function lockImage(trx: Kysely<Schema>, arn: string): Promise<Image | undefined> {
  const row = await trx
    .updateTable("images")
    .set((e) => ({ state: e.ref("state") }))
    .where("arn", "=", arn)
    .returningAll()
    .executeTakeFirst();
  return row && imageOf(row);
}

/** The image's new state, and its newest versions as they are after what the transaction did to them. */
export async function moveImage(trx: Kysely<Schema>, arn: string, state: ImageState, at: Date): Promise<void> {
  const newest = async (with_: Partial<Pick<ImageVersion, "state" | "status">>): Promise<number | null> => {
    let query = trx
      .selectFrom("image_versions")
      .select((e) => e.fn.max("version").as("version"))
      .where("image_arn", "=", arn);
    if (with_.state) query = query.where("state", "=", with_.state);
    if (with_.status) query = query.where("status", "=", with_.status);
    return (await query.executeTakeFirst())?.version ?? null;
  };
  const latestActive = await newest({ state: "SUCCESSFUL", status: "ACTIVE" });
  const latestFailed = await newest({ state: "FAILED" });
  await trx
    .updateTable("images")
    .set((e) => ({
      state,
      latest_active_version: latestActive,
      latest_failed_version: latestFailed,
      updated_at: at.getTime(),
      generation: e("generation", "+", 1),
    }))
    .where("arn", "=", arn)
    .execute();
}
