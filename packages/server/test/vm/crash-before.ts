/**
 * Loaded into a server under test with `--import`: ends it with SIGKILL just before one of its effects on the world.
 * A number over IPC says before which one, counted from now; a negative one disarms. Both are acknowledged.
 */
import childProcess from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { Socket } from "node:net";
import { StatementSync } from "node:sqlite";

type Functions = Record<string, (this: unknown, ...args: never[]) => unknown>;

let left: number | undefined;
let seen = 0;

process.on("message", (n: number) => {
  const before = seen;
  left = n < 0 ? undefined : n;
  seen = 0;
  process.send?.(before);
});
process.channel?.unref(); // the server must end when it has nothing left to do

function strikeBefore(what: string): void {
  if (left === undefined) return;
  seen++;
  if (left-- > 0) return;
  fs.writeSync(2, `${JSON.stringify({ msg: "killed by the test", before: what })}\n`);
  process.kill(process.pid, "SIGKILL");
}

function wrap(
  target: Functions,
  names: readonly string[],
  isEffect: (self: unknown, args: unknown[]) => boolean,
): void {
  for (const name of names) {
    const original = target[name]!;
    target[name] = function (this: unknown, ...args: never[]) {
      if (isEffect(this, args)) strikeBefore(`${name} ${String(args[0]).slice(0, 200)}`);
      return original.apply(this, args);
    };
  }
}

const always = (): boolean => true;
const files = ["chmod", "chown", "copyFile", "mkdir", "rename", "rm", "truncate", "unlink", "writeFile"];
wrap(fs.promises as unknown as Functions, files, always);
wrap(fs.promises as unknown as Functions, ["open"], (_, [, flags]) => typeof flags === "string" && flags !== "r");
const handle = await fs.promises.open("/dev/null");
wrap(Object.getPrototypeOf(handle) as Functions, ["sync", "truncate", "write", "writeFile"], always);
await handle.close();
wrap(childProcess as unknown as Functions, ["spawn"], always);
wrap(Socket.prototype as unknown as Functions, ["write"], always);
wrap(
  StatementSync.prototype as unknown as Functions,
  ["all", "run"],
  (statement) => !/^\s*select/i.test((statement as StatementSync).sourceSQL),
);
syncBuiltinESMExports();
