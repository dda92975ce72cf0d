import type { Kysely } from "kysely";
import { forgetTokens } from "./idempotency-tokens.ts";
import type { DeletionOutcome } from "./image.ts";
import { isSettled, lockImage, moveImage } from "./images.ts";
import type { Schema } from "./schema.ts";

/** One image, or one version of it, that is DELETING. */
export interface Deletion {
  readonly imageArn: string;
  /** Undefined: all of it. */
  readonly version: number | undefined;
}

/** Images and versions that go: written as DELETING first, and forgotten when nothing of them is left on a host. */
export class ImageDeletions {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** → DELETING with all its versions, unless it is in use. No microvm can be launched from it from then on. */
  async beginImage(arn: string, at: Date): Promise<DeletionOutcome> {
    return await this.#db.transaction().execute(async (trx): Promise<DeletionOutcome> => {
      const image = await lockImage(trx, arn);
      if (!image) return { kind: (await wasDeleted(trx, arn)) ? "deleted" : "unknown" };
      if (image.state === "DELETING") return { kind: "deleting" };
      if (!isSettled(image.state)) return { kind: "busy", state: image.state };
      if (await isInUse(trx, { imageArn: arn, version: undefined })) return { kind: "in use" };
      await markVersions(trx, { imageArn: arn, version: undefined }, at);
      await moveImage(trx, arn, "DELETING", at);
      return { kind: "deleting" };
    });
  }

  /** → DELETING, the image UPDATING, unless the version is in use or the last one. */
  async beginVersion(arn: string, version: number, at: Date): Promise<DeletionOutcome> {
    return await this.#db.transaction().execute(async (trx): Promise<DeletionOutcome> => {
      const image = await lockImage(trx, arn);
      if (!image) return { kind: "unknown" };
      const versions = await trx
        .selectFrom("image_versions")
        .select(["version", "state"])
        .where("image_arn", "=", arn)
        .execute();
      const found = versions.find((row) => row.version === version);
      // Numbers are given out one after the other and once.
      if (!found) return { kind: version >= 1 && version <= image.lastVersion ? "deleted" : "unknown" };
      if (found.state === "DELETING") return { kind: "deleting" };
      if (!isSettled(image.state)) return { kind: "busy", state: image.state };
      if (versions.length === 1) return { kind: "last version" };
      if (await isInUse(trx, { imageArn: arn, version })) return { kind: "in use" };
      await markVersions(trx, { imageArn: arn, version }, at);
      await moveImage(trx, arn, "UPDATING", at);
      return { kind: "deleting" };
    });
  }

  /** What was begun and is not finished. */
  async unfinished(): Promise<Deletion[]> {
    const images = await this.#db.selectFrom("images").select("arn").where("state", "=", "DELETING").execute();
    const versions = await this.#db
      .selectFrom("image_versions")
      .innerJoin("images", "images.arn", "image_versions.image_arn")
      .select(["image_arn", "version"])
      .where("images.state", "=", "UPDATING")
      .where("image_versions.state", "=", "DELETING")
      .execute();
    return [
      ...images.map(({ arn }) => ({ imageArn: arn, version: undefined })),
      ...versions.map(({ image_arn, version }) => ({ imageArn: image_arn, version })),
    ];
  }

  /** The ids of all builds of what is DELETING: what hosts and logs have of it has these names. */
  async builds(deletion: Deletion): Promise<string[]> {
    let query = this.#db
      .selectFrom("builds")
      .innerJoin("image_versions", (join) =>
        join
          .onRef("image_versions.image_arn", "=", "builds.image_arn")
          .onRef("image_versions.version", "=", "builds.version"),
      )
      .select("builds.id")
      .where("builds.image_arn", "=", deletion.imageArn)
      .where("image_versions.state", "=", "DELETING");
    if (deletion.version !== undefined) query = query.where("builds.version", "=", deletion.version);
    return (await query.execute()).map(({ id }) => id);
  }

  /**
   * Forgets what is DELETING, the client tokens with it: a request with the same token makes it anew. An image whose
   * version is gone is UPDATED. Forgetting what is forgotten changes nothing.
   */
  async finish(deletion: Deletion, at: Date): Promise<void> {
    const { imageArn, version } = deletion;
    await this.#db.transaction().execute(async (trx) => {
      const image = await lockImage(trx, imageArn);
      if (image?.state !== (version === undefined ? "DELETING" : "UPDATING")) return;
      const builds = await new ImageDeletions(trx).builds(deletion);
      if (builds.length > 0) {
        await trx.deleteFrom("receipts").where("subject", "in", builds).execute();
        await trx.deleteFrom("builds").where("id", "in", builds).execute();
      }
      let going = trx.deleteFrom("image_versions").where("image_arn", "=", imageArn).where("state", "=", "DELETING");
      if (version !== undefined) going = going.where("version", "=", version);
      const gone = await going.returning("version").execute();
      for (const row of gone) await forgetTokens(trx, versionResource(imageArn, row.version));
      if (version !== undefined) {
        if (gone.length > 0) await moveImage(trx, imageArn, "UPDATED", at);
        return;
      }
      await forgetTokens(trx, imageArn);
      await trx.deleteFrom("images").where("arn", "=", imageArn).execute();
      await trx
        .insertInto("deleted_images")
        .values({ arn: imageArn, deleted_at: at.getTime() })
        .onConflict((c) => c.column("arn").doNothing())
        .execute();
    });
  }
}

/** What a client token is kept with that made a version of an image that was there. */
export const versionResource = (imageArn: string, version: number): string => `${imageArn}:${version}`;

async function wasDeleted(trx: Kysely<Schema>, arn: string): Promise<boolean> {
  const row = await trx.selectFrom("deleted_images").select("arn").where("arn", "=", arn).executeTakeFirst();
  return row !== undefined;
}

/**
 * Whether a microvm of it is not TERMINATED. Its versions stay as they are until the transaction ends: a launch holds
 * its version while it writes its microvm (Images.hold), so that one of both meets the other.
 */
async function isInUse(trx: Kysely<Schema>, { imageArn, version }: Deletion): Promise<boolean> {
  let versions = trx
    .updateTable("image_versions")
    .set((e) => ({ state: e.ref("state") }))
    .where("image_arn", "=", imageArn);
  let users = trx
    .selectFrom("microvms")
    .select("id")
    .where("image_arn", "=", imageArn)
    .where("state", "!=", "TERMINATED");
  if (version !== undefined) {
    versions = versions.where("version", "=", version);
    users = users.where("image_version", "=", version);
  }
  await versions.execute();
  return (await users.limit(1).executeTakeFirst()) !== undefined;
}

async function markVersions(trx: Kysely<Schema>, { imageArn, version }: Deletion, at: Date): Promise<void> {
  let query = trx
    .updateTable("image_versions")
    .set({ state: "DELETING", status: "INACTIVE", updated_at: at.getTime() })
    .where("image_arn", "=", imageArn);
  if (version !== undefined) query = query.where("version", "=", version);
  await query.execute();
}
