import { readFileSync } from "node:fs";
import { ShellError } from "@torpor/sdk";
import { Argument, type Command } from "commander";
import { readEnvironment } from "../environment.ts";
import { ExitWith, Failure } from "../failure.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";
import { attach } from "../shell/attach.ts";

interface ShellFlags extends CommonFlags {
  readonly tty?: boolean;
}

/** As with ssh: the codes below it are the shell's own. */
const NO_EXIT_CODE = 255;

export function shellCommand(signal: AbortSignal): Command {
  return clientCommand("shell", "a shell in a microvm, or a command; its exit code becomes this one's")
    .addArgument(new Argument("<id>"))
    .addArgument(new Argument("[command...]", "behind --: run this instead of the image's shell"))
    .option("-t, --tty", "with a terminal, also when stdin or stdout is none")
    .option("-T, --no-tty", "with pipes: binary data passes as it is, stdout and stderr are apart")
    .addHelpText(
      "after",
      "\nOn a terminal, at the beginning of a line: ~. ends the connection, ~~ types ~, ~? says so.",
    )
    .action(async (id: string, command: string[], flags: ShellFlags) => {
      try {
        process.exitCode = await shell(id, command, flags, openSession(flags, signal));
      } catch (err) {
        throw new ExitWith(NO_EXIT_CODE, err);
      }
    });
}

async function shell(id: string, command: readonly string[], flags: ShellFlags, session: Session): Promise<number> {
  const { client, connection, out, signal } = session;
  const { stdin, stdout } = process;
  const terminal = flags.tty ?? (stdin.isTTY === true && stdout.isTTY === true);
  await mayBeWoken(id, session);
  try {
    using opened = await client.shell(
      id,
      {
        command,
        terminal,
        ...(terminal && { columns: stdout.columns, rows: stdout.rows, term: readEnvironment().term }),
        ...(connection.caFile !== undefined && { ca: readFileSync(connection.caFile, "utf8") }),
        endpointPort: connection.endpointPort,
      },
      signal,
    );
    const code = await attach(opened, terminal);
    if (code === undefined) out.progress(`connection to ${id} ended`);
    return code ?? NO_EXIT_CODE;
  } catch (err) {
    throw err instanceof ShellError ? explained(err, id) : err;
  }
}

/** @throws Failure when nobody but the user may */
async function mayBeWoken(microvmIdentifier: string, { client, signal }: Session): Promise<void> {
  const { state, idlePolicy } = await client.call("GetMicrovm", { microvmIdentifier }, signal);
  if ((state === "SUSPENDED" || state === "SUSPENDING") && !idlePolicy?.autoResumeEnabled)
    throw new Failure(
      `${microvmIdentifier} is suspended, and does not wake by itself`,
      `torpor resume ${microvmIdentifier}, and the same command again`,
    );
}

function explained(err: ShellError, id: string): Failure {
  const hints: Partial<Record<ShellError["reason"], string>> = {
    refused: `torpor show ${id}, and torpor resume ${id} if it is SUSPENDED`,
    stopped: `torpor show ${id}`,
    incompatible: "torpor image update DIR, and torpor run with its next version",
    no_shell: `torpor shell ${id} -- COMMAND, with one that the image has`,
    unreachable: `torpor show ${id}`,
    failed: "torpor doctor, and the server's log",
  };
  return new Failure(err.message, hints[err.reason]);
}
