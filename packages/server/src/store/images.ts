import type { Kysely } from "kysely";
import { StaleWriteError } from "./errors.ts";
import type { Build, BuildOutcome, Image, ImageState, ImageVersion } from "./image.ts";
import { buildOf, buildRow, imageOf, imageRow, versionOf, versionRow } from "./image-rows.ts";
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
    await this.#db.insertInto("image_versions").values(versionRow(version)).execute();
    await this.#db.insertInto("builds").values(buildRow(build)).execute();
    return true;
  }

  async find(arn: string): Promise<Image | undefined> {
    const row = await this.#db.selectFrom("images").selectAll().where("arn", "=", arn).executeTakeFirst();
    return row && imageOf(row);
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
      const image = await trx
        .selectFrom("images")
        .selectAll()
        .where("arn", "=", build.imageArn)
        .executeTakeFirstOrThrow();
      await trx
        .updateTable("images")
        .set({
          state: settled(imageOf(image).state, built),
          ...(built ? { latest_active_version: build.version } : { latest_failed_version: build.version }),
          updated_at: at.getTime(),
          generation: image.generation + 1,
        })
        .where("arn", "=", build.imageArn)
        .execute();
      if (built) await appendReceipt(trx, build.id, outcome.receipt);
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
