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

/** As Node takes trailers. */
export function pairsOf(lines: HeaderLines): [name: string, value: string][] {
  return [...linesOf(lines)].map(([name, value]) => [name, value]);
}

/** For those of Node's functions that take no lines. Names are to be in lower case. */
export function groupsOf(lines: HeaderLines): Record<string, string[]> {
  const groups: Record<string, string[]> = Object.create(null);
  for (const [name, value] of linesOf(lines)) {
    groups[name] ??= [];
    groups[name].push(value);
  }
  return groups;
}
