import { type Kysely, sql } from "kysely";
import type { TemplateNeed } from "./image.ts";
import type { Schema } from "./schema.ts";

/** Who needs the templates that hosts have. */
export class Templates {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /**
   * Every template that is needed, or of the given one only. What nothing needs is never needed again: launches come
   * from versions, forks from checkpoints, checkpoints from microvms.
   */
  async needs(templateId?: string): Promise<ReadonlyMap<string, TemplateNeed>> {
    // One statement, so that it sees one moment: a fork may take the place of the checkpoint that it came from.
    const launches = this.#db
      .selectFrom("builds")
      .innerJoin("image_versions", (join) =>
        join
          .onRef("image_versions.image_arn", "=", "builds.image_arn")
          .onRef("image_versions.version", "=", "builds.version"),
      )
      .select(["builds.id as template_id", sql<TemplateNeed>`'launches'`.as("need")])
      .where((e) =>
        e.or([
          e("builds.state", "in", ["PENDING", "IN_PROGRESS"]),
          e.and([e("builds.state", "=", "SUCCESSFUL"), e("image_versions.status", "=", "ACTIVE")]),
        ]),
      );
    const restores = sql<TemplateNeed>`'restores'`.as("need");
    const switchedOff = this.#db
      .selectFrom("builds")
      .innerJoin("image_versions", (join) =>
        join
          .onRef("image_versions.image_arn", "=", "builds.image_arn")
          .onRef("image_versions.version", "=", "builds.version"),
      )
      .select(["builds.id as template_id", restores])
      .where("builds.state", "=", "SUCCESSFUL")
      .where("image_versions.state", "=", "SUCCESSFUL")
      .where("image_versions.status", "=", "INACTIVE");
    const microvms = this.#db
      .selectFrom("microvms")
      .select(["template_id", restores])
      .where("state", "in", ["PENDING", "RUNNING", "SUSPENDING", "SUSPENDED", "TERMINATING"]);
    const checkpoints = this.#db
      .selectFrom("checkpoints")
      .select(["template_id", restores])
      .where("state", "in", ["CREATING", "AVAILABLE"]);
    let query = this.#db
      .selectFrom(launches.union(switchedOff).union(microvms).union(checkpoints).as("needs"))
      .select(["template_id", "need"]);
    if (templateId !== undefined) query = query.where("template_id", "=", templateId);
    const needs = new Map<string, TemplateNeed>();
    for (const { template_id, need } of await query.execute())
      if (need === "launches" || !needs.has(template_id)) needs.set(template_id, need);
    return needs;
  }
}
