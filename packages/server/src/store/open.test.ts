import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { createLog } from "../lib/log.ts";
import { openStore } from "./open.ts";
import { temporaryFolder, temporaryStore } from "./testing.ts";

const log = createLog("silent");

test("what was written is there after closing and opening again", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const first = await openStore(path, log);
  await first.settings.set("greeting", "hello");
  await first.settings.set("greeting", "hello again");
  await first.close();

  const second = await openStore(path, log);
  expect(await second.settings.get("greeting")).toBe("hello again");
  expect(await second.settings.get("other")).toBeUndefined();
  await second.close();
});

test("a second server on the same database is refused, and told who has it", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const holder = await openStore(path, log);
  await expect(openStore(path, log)).rejects.toThrow(`pid ${process.pid}`);
  // The refusal has not cost the holder its lock.
  await expect(openStore(path, log)).rejects.toMatchObject({ kind: "conflict" });
  await holder.close();
  await (await openStore(path, log)).close();
});

test("a server that was killed leaves no lock behind, and the next one checks the database", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const script = `
    import { openStore } from ${JSON.stringify(new URL("./open.ts", import.meta.url).href)};
    import { createLog } from ${JSON.stringify(new URL("../lib/log.ts", import.meta.url).href)};
    const store = await openStore(${JSON.stringify(path)}, createLog("silent"));
    await store.settings.set("written", "before the kill");
    console.log("open");
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  await expect(openStore(path, log)).rejects.toThrow(`pid ${child.pid}`);
  child.kill("SIGKILL");
  await once(child, "exit");

  const store = await openStore(path, log);
  expect(await store.settings.get("written")).toBe("before the kill");
  await store.close();
});

test("a damaged database is refused after an unclean exit, again and again", async () => {
  const folder = await temporaryFolder();
  const path = join(folder, "torpor.db");
  const store = await openStore(path, log);
  for (let i = 0; i < 200; i++) await store.settings.set(`name-${i}`, "x".repeat(200));
  await store.close();

  const file = await open(path, "r+");
  const { size } = await file.stat();
  await file.write(Buffer.alloc(4096, 0x5a), 0, 4096, size - 8192);
  await file.close();
  const pidFile = await open(`${path}.pid`, "w");
  await pidFile.writeFile("123456\n");
  await pidFile.close();

  await expect(openStore(path, log)).rejects.toThrow(/damaged/);
  await expect(openStore(path, log)).rejects.toMatchObject({ kind: "unavailable" });
});

test("a database that a newer version has migrated is refused", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  await (await openStore(path, log)).close();
  const raw = new DatabaseSync(path);
  raw.exec("insert into kysely_migration values ('9999-from-the-future', '2040-01-01T00:00:00Z')");
  raw.close();
  await expect(openStore(path, log)).rejects.toThrow(/newer Torpor/);
});

test("the files are readable by their owner alone", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const store = await openStore(path, log);
  for (const file of [path, `${path}-wal`, `${path}.lock`, `${path}.pid`])
    expect((await stat(file)).mode & 0o077, file).toBe(0);
  await store.close();
});

test("a write waits for another process's lock instead of failing", async () => {
  const path = join(await temporaryFolder(), "torpor.db");
  const store = await openStore(path, log);
  const other = new DatabaseSync(path);
  other.exec("begin immediate");
  const write = store.settings.set("patience", "yes");
  const tick = await Promise.race([write.then(() => "written"), new Promise((r) => setImmediate(() => r("waiting")))]);
  expect(tick).toBe("waiting"); // and the event loop went round meanwhile
  other.exec("rollback");
  other.close();
  await write;
  expect(await store.settings.get("patience")).toBe("yes");
  await store.close();
});

test("a transaction that fails leaves nothing behind", async () => {
  const store = await temporaryStore();
  const key = { accountId: "1", operation: "RunMicrovm", token: "t" };
  await expect(
    store.transaction(async (write) => {
      await write.idempotencyTokens.insert(key, { requestDigest: "d", response: "{}" }, new Date(0), null);
      throw new Error("half way");
    }),
  ).rejects.toThrow("half way");
  expect(await store.idempotencyTokens.find(key)).toBeUndefined();
});
