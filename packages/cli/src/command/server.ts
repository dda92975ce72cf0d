import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { inheritedEnvironment } from "../environment.ts";
import { Failure } from "../failure.ts";

/** Commands that are the server's own: this process becomes it, so that signals and supervisors meet the server. */
export function serverCommands(): Command[] {
  return [
    becoming("serve", "run the server in the foreground; flags as `torpor config` lists them"),
    becoming("doctor", "check what this machine has and lacks"),
    becoming("config", "print every setting, its value and where it came from"),
  ];
}

function becoming(name: string, summary: string): Command {
  return new Command(name)
    .description(summary)
    .usage("[flags]")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action((_options: unknown, command: Command) => become(name, command.args));
}

function become(name: string, args: readonly string[]): void {
  const main = fileURLToPath(import.meta.resolve("@torpor/server/main"));
  if (!existsSync(main)) throw new Failure("the server is not installed beside this program", "npm ci");
  if (process.execve === undefined) throw new Failure("this needs Node 24", "scripts/setup.sh");
  const quiet = "--disable-warning=ExperimentalWarning";
  process.execve(process.execPath, [process.execPath, quiet, main, name, ...args], inheritedEnvironment());
}
