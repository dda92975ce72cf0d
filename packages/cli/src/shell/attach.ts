import { once } from "node:events";
import { ReadStream, WriteStream } from "node:tty";
import type { ShellSession } from "@torpor/sdk";
import { Escapes } from "./escape.ts";
import { takeInput } from "./input.ts";
import { rawTerminal } from "./raw-terminal.ts";

const HELP = "\r\n~.  ends the connection\r\n~~  types ~\r\n~?  this\r\n";

/**
 * Joins a shell and this process's own input and outputs, until the shell exits.
 * @returns its exit code; undefined when the user has ended the connection
 * @throws ShellError
 */
export async function attach(shell: ShellSession, terminal: boolean): Promise<number | undefined> {
  const { stdin, stdout, stderr } = process;
  using undo = new DisposableStack();
  let left = false;
  const leave = (): void => {
    left = true;
    shell[Symbol.dispose]();
  };
  const escapes = terminal && stdin instanceof ReadStream ? new Escapes() : undefined;
  if (escapes) undo.use(rawTerminal(stdin));
  if (terminal && stdout instanceof WriteStream) {
    const resized = (): void => void shell.resize(stdout.columns, stdout.rows);
    stdout.on("resize", resized);
    undo.defer(() => stdout.off("resize", resized));
  }
  const typed = async (chunk: Buffer): Promise<void> => {
    if (!escapes) return await shell.write(chunk);
    for (const key of escapes.read(chunk)) {
      if (key.kind === "disconnect") return leave();
      if (key.kind === "help") stderr.write(HELP);
      else await shell.write(key.bytes);
    }
  };
  undo.use(takeInput(stdin, typed, () => void shell.endInput()));
  try {
    for await (const event of shell.events()) {
      if (event.kind === "exit") return event.code;
      const to = event.stream === "stderr" ? stderr : stdout;
      if (!to.write(event.bytes)) await once(to, "drain");
    }
  } catch (err) {
    if (!left) throw err;
  }
  return undefined;
}
