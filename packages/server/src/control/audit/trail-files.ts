import { readdir } from "node:fs/promises";

const NAME = /^(\d{8})\.jsonl$/;

/** The files of a trail are numbered; the highest is being written. */
export const fileName = (number: number): string => `${String(number).padStart(8, "0")}.jsonl`;

/** Ascending. */
export async function numbersIn(folder: string): Promise<number[]> {
  return (await readdir(folder))
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}
