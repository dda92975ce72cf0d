import { parseArgs } from "node:util";
import { FIGURES } from "./harness/aims.ts";

export interface Options {
  /** File for the result as JSON. */
  readonly json: string | undefined;
  readonly check: boolean;
  /** Figures whose id begins with this. */
  readonly only: string;
  /** Of figures whose samples are cheap; the others take fewer. */
  readonly samples: number;
}

export const USAGE = `usage: npm run bench -- [--json FILE] [--check] [--only PREFIX] [--samples N]
  --json FILE    writes the result there
  --check        exit status 1 when a figure misses its aim; the last line names which
  --only PREFIX  the figures whose id begins with it: launch, suspend, resume.stored, density, …
  --samples N    samples of each figure, 20 when nothing is said; fewer than 20 also make the crowds of density and
                 restart smaller

as root, after scripts/setup.sh. Figures:
${FIGURES.map(({ id, unit, aim }) => `  ${id.padEnd(28)}${unit.padEnd(5)}${aim}`).join("\n")}`;

export const DEFAULT_SAMPLES = 20;

/** @throws TypeError when they make no sense */
export function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "string" },
      check: { type: "boolean", default: false },
      only: { type: "string", default: "" },
      samples: { type: "string", default: String(DEFAULT_SAMPLES) },
    },
  });
  const samples = Number(values.samples);
  if (!Number.isSafeInteger(samples) || samples < 1) throw new TypeError(`--samples ${values.samples}: not a count`);
  if (!FIGURES.some(({ id }) => id.startsWith(values.only)))
    throw new TypeError(`--only ${values.only}: no such figure`);
  return { json: values.json, check: values.check, only: values.only, samples };
}
