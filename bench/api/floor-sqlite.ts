/**
 * The floor of a durable write: rows put into a SQLite file one by one, each on the disk before the next, as the store
 * has it. Prints milliseconds of each as JSON.
 */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const [folder = "", milliseconds = "1000"] = process.argv.slice(2);
const database = new DatabaseSync(join(folder, "floor.db"));
database.exec(
  "pragma journal_mode = wal; pragma synchronous = full; create table rows (id text primary key, body text)",
);
const insert = database.prepare("insert into rows values (?, ?)");
const body = "x".repeat(500);
const times: number[] = [];
for (let at = performance.now(), end = at + Number(milliseconds); at < end; ) {
  insert.run(`row-${times.length}`, body);
  const now = performance.now();
  times.push(now - at);
  at = now;
}
database.close();
console.log(JSON.stringify(times));
