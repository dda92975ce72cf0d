import { join } from "node:path";
import { Kysely, sql } from "kysely";
import { Migrator } from "kysely/migration";
import { expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { openStore } from "../open.ts";
import { sqliteDialect } from "../sqlite-dialect.ts";
import { temporaryFolder } from "../testing.ts";
import { MIGRATIONS } from "./all.ts";

test("the keys of an earlier version are root keys of enabled accounts, and as they were", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const db = new Kysely<never>({ dialect: sqliteDialect(path) });
  const earlier = Object.fromEntries(Object.entries(MIGRATIONS).filter(([name]) => name < "0006"));
  const { error } = await new Migrator({ db, provider: { getMigrations: async () => earlier } }).migrateToLatest();
  expect(error).toBeUndefined();
  for (const [id, account, at] of [
    ["AKIAONE", "000000000000", 2],
    ["AKIATWO", "000000000000", 1],
    ["AKIATHREE", "111111111111", 3],
  ] as const)
    await sql`insert into access_keys (access_key_id, secret_access_key, account_id, principal_arn, created_at)
      values (${id}, 'secret', ${account}, ${`arn:aws:iam::${account}:root`}, ${at})`.execute(db);
  await db.destroy();

  const store = await openStore(path, createLog("silent"));
  try {
    expect(await store.accounts.all()).toEqual([
      { id: "000000000000", name: null, enabled: true, createdAt: new Date(1) },
      { id: "111111111111", name: null, enabled: true, createdAt: new Date(3) },
    ]);
    expect(await store.accessKeys.findUsable("AKIAONE")).toEqual({
      accessKeyId: "AKIAONE",
      secret: { text: "secret", sealedWith: null },
      accountId: "000000000000",
      name: "root",
      principalArn: "arn:aws:iam::000000000000:root",
      policy: null,
      enabled: true,
      expiresAt: null,
      lastUsedAt: null,
      createdAt: new Date(2),
    });
  } finally {
    await store.close();
  }
});
