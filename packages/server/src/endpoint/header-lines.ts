/** Header lines as Node's `rawHeaders` has them: name and value in turn, in the order and case of the wire. */
export type HeaderLines = readonly string[];

export function* linesOf(lines: HeaderLines): Generator<readonly [name: string, value: string]> {
  for (let i = 0; i + 1 < lines.length; i += 2) yield [lines[i] ?? "", lines[i + 1] ?? ""];
}

/** The values of all lines of that name (given in lower case), in order. */
export function valuesOf(lines: HeaderLines, name: string): string[] {
  const values: string[] = [];
  for (const [lineName, value] of linesOf(lines)) if (lineName.toLowerCase() === name) values.push(value);
  return values;
}

/** The members of a comma-separated header, over all of its lines. */
export function listOf(lines: HeaderLines, name: string): string[] {
  return valuesOf(lines, name)
    .flatMap((value) => value.split(","))
    .map((member) => member.trim())
    .filter((member) => member !== "");
}
