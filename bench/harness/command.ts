import { writeFile } from "node:fs/promises";
import { messageOf } from "../../packages/server/src/lib/errors.ts";
import { type Judged, misses } from "./aims.ts";
import type { Figure } from "./figure.ts";
import type { Machine } from "./machine.ts";
import { phaseLines, table } from "./table.ts";

/** A bench as a command: exit status 2 when its options make no sense, 130 when it was interrupted and has cleaned up. */
export async function command<O>(
  usage: string,
  parse: (args: string[]) => O,
  main: (options: O, signal: AbortSignal) => Promise<number>,
): Promise<void> {
  let options: O;
  try {
    options = parse(process.argv.slice(2));
  } catch (err) {
    console.error(`${messageOf(err)}\n\n${usage}`);
    process.exit(2);
  }
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.on(name, () => interrupt.abort(new Error(`${name}: everything is being cleaned up`)));
  try {
    process.exitCode = await main(options, interrupt.signal);
  } catch (err) {
    if (!interrupt.signal.aborted) throw err;
    console.error("bench: interrupted, and cleaned up");
    process.exitCode = 130;
  }
}

export interface Result {
  readonly machine: Machine;
  readonly figures: readonly Figure[];
  readonly judged: readonly Judged[];
  /** Stands above where the time went. */
  readonly phasesTitle: string;
}

/** Prints the result, writes it where it is wanted, and holds it against the aims. @returns the exit status */
export async function report(
  { machine, figures, judged, phasesTitle }: Result,
  { json, check }: { readonly json: string | undefined; readonly check: boolean },
): Promise<number> {
  for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(12)}${value}`);
  console.log(`\n${table(judged)}\n${phasesTitle}${phaseLines(judged)}`);
  if (json) await writeFile(json, `${JSON.stringify({ machine, figures }, null, 2)}\n`);
  if (!check) return 0;
  const missed = misses(judged);
  console.log(missed.length === 0 ? "\nall aims reached" : `\nmissed: ${missed.join(", ")}`);
  return missed.length === 0 ? 0 : 1;
}
