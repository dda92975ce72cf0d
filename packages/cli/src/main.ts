#!/usr/bin/env node
import { CommanderError } from "commander";
import { explain } from "./failure.ts";
import { buildProgram } from "./program.ts";
import { outputFor } from "./session.ts";

/** Exit codes: 0 done, 1 failed, 2 the command line cannot be right, 130 interrupted; those of `shell` are the shell's. */
const abort = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.once(name, () => abort.abort(new Error("interrupted")));
process.stdout.on("error", (err: NodeJS.ErrnoException) => {
  if (err.code === "EPIPE") process.exit(0); // whoever read has read enough
  throw err;
});

try {
  await buildProgram(abort.signal).parseAsync(process.argv);
} catch (err) {
  process.exitCode = abort.signal.aborted ? 130 : report(err);
}

function report(err: unknown): number {
  // commander has said what was wrong, or printed what was asked for
  if (err instanceof CommanderError) return err.exitCode === 0 ? 0 : 2;
  const { type, message, hint, exitCode } = explain(err);
  const out = outputFor(process.argv.includes("--json"));
  if (out.json) process.stderr.write(`${JSON.stringify({ error: { type, message, hint } })}\n`);
  else {
    out.progress(`torpor: ${message}`);
    if (hint !== undefined) out.progress(`try: ${hint}`);
  }
  return exitCode;
}
