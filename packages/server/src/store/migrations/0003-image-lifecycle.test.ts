import { join } from "node:path";
import { Kysely, sql } from "kysely";
import { Migrator } from "kysely/migration";
import { expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { openStore } from "../open.ts";
import { sqliteDialect } from "../sqlite-dialect.ts";
import { temporaryFolder } from "../testing.ts";
import { MIGRATIONS } from "./all.ts";

const arn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo";

async function before(db: Kysely<never>): Promise<void> {
  const earlier = Object.fromEntries(Object.entries(MIGRATIONS).filter(([name]) => name < "0003"));
  const { error } = await new Migrator({ db, provider: { getMigrations: async () => earlier } }).migrateToLatest();
  expect(error).toBeUndefined();
  await sql`insert into images (arn, account_id, name, generation, state, tags, created_at, updated_at)
    values (${arn}, '000000000000', 'demo', 2, 'CREATED', '{}', 1, 1)`.execute(db);
  const response = JSON.stringify({ imageArn: arn, state: "CREATING" });
  for (const operation of ["CreateMicrovmImage", "RunMicrovm"])
    await sql`insert into idempotency_tokens (account_id, operation, token, request_digest, response, created_at)
      values ('000000000000', ${operation}, 't', 'd', ${response}, 1)`.execute(db);
}

test("an image of an earlier version has one version, and its token goes with it", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const db = new Kysely<never>({ dialect: sqliteDialect(path) });
  await before(db);
  await db.destroy();
  const store = await openStore(path, createLog("silent"));
  try {
    expect(await store.images.find(arn)).toMatchObject({ state: "CREATED", lastVersion: 1 });
    await store.imageDeletions.beginImage(arn, new Date());
    await store.imageDeletions.finish({ imageArn: arn, version: undefined }, new Date());
    const find = (operation: string) =>
      store.idempotencyTokens.find({ accountId: "000000000000", operation, token: "t" });
    expect(await find("CreateMicrovmImage")).toBeUndefined();
    expect(await find("RunMicrovm")).toBeDefined();
  } finally {
    await store.close();
  }
});
