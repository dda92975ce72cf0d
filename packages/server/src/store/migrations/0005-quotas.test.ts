import { join } from "node:path";
import { Kysely, sql } from "kysely";
import { Migrator } from "kysely/migration";
import { expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { openStore } from "../open.ts";
import { sqliteDialect } from "../sqlite-dialect.ts";
import { temporaryFolder } from "../testing.ts";
import { MIGRATIONS } from "./all.ts";

const demo = "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo";
const gone = "arn:aws:lambda:us-east-1:000000000000:microvm-image:gone";

async function before(db: Kysely<never>): Promise<void> {
  const earlier = Object.fromEntries(Object.entries(MIGRATIONS).filter(([name]) => name < "0005"));
  const { error } = await new Migrator({ db, provider: { getMigrations: async () => earlier } }).migrateToLatest();
  expect(error).toBeUndefined();
  const configuration = JSON.stringify({ memoryMib: 512, environment: null });
  await sql`insert into images (arn, account_id, name, generation, state, tags, created_at, updated_at)
    values (${demo}, '000000000000', 'demo', 2, 'CREATED', '{}', 1, 1)`.execute(db);
  await sql`insert into image_versions (image_arn, version, state, status, configuration, created_at, updated_at)
    values (${demo}, 3, 'SUCCESSFUL', 'ACTIVE', ${configuration}, 1, 1)`.execute(db);
  const spec = JSON.stringify({ maximumDurationSeconds: 60, hooks: {} });
  for (const [id, arn] of [
    ["a", demo],
    ["b", gone],
  ]) {
    await sql`insert into microvms (id, account_id, label, generation, image_arn, image_version, template_id, spec,
        started_at, deadline, last_activity_at, state, resuming, terminate_hook)
      values (${`microvm-${id}`}, '000000000000', ${id}, 1, ${arn}, 3, 't', ${spec}, 1, 1, 1, 'RUNNING', 0, 0)`.execute(
      db,
    );
    await sql`insert into checkpoints (id, account_id, microvm_id, internal, image_arn, image_version, template_id, spec,
        created_at, state, memory_bytes, disk_bytes)
      values (${`checkpoint-${id}`}, '000000000000', 'm', 0, ${arn}, 3, 't', ${spec}, 1, 'AVAILABLE', 1, 1)`.execute(
      db,
    );
  }
}

test("microvms and checkpoints of an earlier version know their memory: the image's, or what images have by default", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const db = new Kysely<never>({ dialect: sqliteDialect(path) });
  await before(db);
  await db.destroy();
  const store = await openStore(path, createLog("silent"));
  try {
    const spec = { maximumDurationSeconds: 60, hooks: {} };
    expect((await store.microvms.find("microvm-a"))?.spec).toEqual({ ...spec, memoryMib: 512 });
    expect((await store.microvms.find("microvm-b"))?.spec).toEqual({ ...spec, memoryMib: 2048 });
    expect((await store.checkpoints.find("checkpoint-a"))?.spec).toEqual({ ...spec, memoryMib: 512 });
    expect((await store.checkpoints.find("checkpoint-b"))?.spec).toEqual({ ...spec, memoryMib: 2048 });
  } finally {
    await store.close();
  }
});
