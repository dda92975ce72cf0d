import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Failure } from "../failure.ts";

/** @throws Failure with what the program said */
export async function runProgram(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { timeout: 60_000 })).stdout;
  } catch (err) {
    const said = err instanceof Error && "stderr" in err ? String(err.stderr).trim() : "";
    throw new Failure(`${[program, ...args].join(" ")} failed: ${said || (err instanceof Error ? err.message : err)}`);
  }
}

/** Where the program is; undefined when it is nowhere in the path. */
export function findProgram(name: string, path: string): string | undefined {
  for (const folder of [...path.split(":"), "/usr/sbin", "/sbin"]) {
    if (!folder.startsWith("/")) continue;
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // the next one may have it
    }
  }
  return undefined;
}
