import { readFileSync } from "node:fs";
import { parse } from "smol-toml";
import { z } from "zod";
import { messageOf, TorporError } from "../../lib/errors.ts";

/** Role ARN → the program, with its arguments, that prints the role's credentials. */
export type RoleCommands = ReadonlyMap<string, readonly string[]>;

const ROLE_ARN = /^arn:aws[a-z-]*:iam::\d{12}:role\/\S+$/;
const entry = z.strictObject({ command: z.array(z.string()).min(1) });

/**
 * The TOML file has a table for each role: `["arn:aws:iam::000000000000:role/NAME"]` with `command = ["…", …]`. No file: no
 * role.
 * @throws TorporError naming the file, the role, and what was expected
 */
export function readRoleFile(path: string): RoleCommands {
  if (path === "") return new Map();
  const roles = new Map<string, readonly string[]>();
  for (const [arn, table] of Object.entries(tables(path))) {
    if (!ROLE_ARN.test(arn)) throw invalid(path, `${JSON.stringify(arn)} is not the ARN of a role`);
    const parsed = entry.safeParse(table);
    if (!parsed.success) throw invalid(path, `${arn}: expected only command = ["PROGRAM", "ARGUMENT", …]`);
    const [program] = parsed.data.command;
    if (!program?.startsWith("/"))
      throw invalid(path, `${arn}: the program must be an absolute path, got ${JSON.stringify(program)}`);
    roles.set(arn, parsed.data.command);
  }
  return roles;
}

function tables(path: string): Record<string, unknown> {
  try {
    return parse(readFileSync(path, "utf8"));
  } catch (err) {
    throw invalid(path, messageOf(err));
  }
}

const invalid = (path: string, what: string): TorporError =>
  new TorporError("invalid_input", `role-file ${path}: ${what}`);
