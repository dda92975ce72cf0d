import { readFileSync } from "node:fs";
import { Command } from "commander";
import { accountCommand } from "./command/account.ts";
import { auditCommand } from "./command/audit.ts";
import { callCommand } from "./command/call.ts";
import { checkpointCommands } from "./command/checkpoint.ts";
import { connectorCommand } from "./command/connector.ts";
import { envCommand } from "./command/env.ts";
import { imageCommand } from "./command/image.ts";
import { keyCommand } from "./command/key.ts";
import { logsCommand } from "./command/logs.ts";
import { microvmCommands } from "./command/microvm.ts";
import { quotasCommand } from "./command/quotas.ts";
import { runCommand } from "./command/run.ts";
import { serverCommands } from "./command/server.ts";
import { shellCommand } from "./command/shell.ts";
import { tagCommand } from "./command/tag.ts";
import { tokenCommand } from "./command/token.ts";
import { trustCommand } from "./command/trust.ts";
import { watchCommands } from "./command/watch.ts";

/** All commands. Running one throws: CommanderError for the command line, anything else from the command itself. */
export function buildProgram(signal: AbortSignal): Command {
  const program = new Command("torpor")
    .description("Lambda MicroVMs on your own machine: virtual machines that sleep when idle and wake as they were.")
    .version(versionOf(new URL("../package.json", import.meta.url)))
    .enablePositionalOptions();
  program.commandsGroup("Server:");
  for (const command of [...serverCommands(), envCommand(signal), trustCommand(signal), quotasCommand(signal)])
    program.addCommand(command);
  program.commandsGroup("Access:").addCommand(keyCommand(signal)).addCommand(accountCommand(signal));
  program.addCommand(auditCommand(signal));
  program.commandsGroup("Images:").addCommand(imageCommand(signal));
  program.addCommand(tagCommand(signal));
  program.commandsGroup("Networks:").addCommand(connectorCommand(signal));
  program.commandsGroup("Microvms:").addCommand(runCommand(signal));
  for (const command of microvmCommands(signal)) program.addCommand(command);
  for (const command of checkpointCommands(signal)) program.addCommand(command);
  program.addCommand(callCommand(signal));
  program.addCommand(shellCommand(signal));
  program.addCommand(tokenCommand(signal));
  program.addCommand(logsCommand(signal));
  for (const command of watchCommands(signal)) program.addCommand(command);
  throwing(program);
  return program;
}

/** Errors are thrown, after commander has said what was wrong: it would end the process by itself. */
function throwing(command: Command): void {
  command.exitOverride().showHelpAfterError("(torpor help COMMAND shows what a command takes)");
  for (const sub of command.commands) throwing(sub);
}

function versionOf(file: URL): string {
  const fields = new Map<string, unknown>(Object.entries(Object(JSON.parse(readFileSync(file, "utf8")))));
  return String(fields.get("version"));
}
