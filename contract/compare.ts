import type { Difference } from "../packages/protocol/src/compatibility/differences.ts";
import type { Facts, OperationFacts, Service } from "./facts.ts";

/** One thing in which we are not what the oracle says, and which nobody has declared. */
export interface Finding {
  /** `RunMicrovm` or `RunMicrovm input.hooks.port`. */
  readonly at: string;
  readonly fact: string;
  readonly oracle: string;
  readonly ours: string;
}

export interface Comparison {
  readonly oracle: string;
  readonly operations: Coverage;
  readonly members: Coverage;
  readonly findings: readonly Finding[];
  /** The declared differences that were met. */
  readonly met: ReadonlySet<Difference>;
}

/** How many the oracle knows, and how many of them we have as it says, or differently as declared. */
export interface Coverage {
  readonly known: number;
  readonly covered: number;
}

const ABSENT = "absent";
const PRESENT = "present";

/**
 * Both ways: what the oracle knows and we lack, and what we have and the oracle does not know. Facts that the oracle
 * does not tell are not compared.
 */
export function compare(oracle: Service, ours: Service, declared: readonly Difference[]): Comparison {
  const met = new Set<Difference>();
  const findings: Finding[] = [];
  const operations = { known: 0, covered: 0 };
  const members = { known: 0, covered: 0 };
  const report = (finding: Finding): boolean => {
    const difference = declared.find((d) => declares(d, finding));
    if (difference) met.add(difference);
    else findings.push(finding);
    return difference !== undefined;
  };
  const agree = (at: string, known: Facts, have: Facts): boolean =>
    Object.entries(known)
      .map(([fact, value = ABSENT]) => {
        const own = have[fact] ?? ABSENT;
        return own === value || report({ at, fact, oracle: value, ours: own });
      })
      .every(Boolean);

  for (const [name, known] of oracle.operations) {
    operations.known++;
    members.known += known.members.size;
    const own = ours.operations.get(name);
    if (!own) {
      if (report({ at: name, fact: "operation", oracle: PRESENT, ours: ABSENT })) {
        operations.covered++;
        members.covered += known.members.size;
      }
      continue;
    }
    const extra = extraErrors(known, own);
    if (agree(name, { ...extra, ...known.facts }, own.facts)) operations.covered++;
    for (const [path, facts] of known.members) {
      const at = `${name} ${path}`;
      const member = own.members.get(path);
      if (member ? agree(at, facts, member) : report({ at, fact: "member", oracle: PRESENT, ours: ABSENT }))
        members.covered++;
    }
    for (const path of own.members.keys())
      if (!known.members.has(path)) report({ at: `${name} ${path}`, fact: "member", oracle: ABSENT, ours: PRESENT });
  }
  return { oracle: oracle.source, operations, members, findings, met };
}

/** Errors of ours that the oracle does not have, as absent there; none when it says nothing about errors. */
function extraErrors(known: OperationFacts, own: OperationFacts): Facts {
  const isError = (fact: string): boolean => fact.startsWith("error ");
  if (!Object.keys(known.facts).some(isError)) return {};
  return Object.fromEntries(
    Object.keys(own.facts)
      .filter((fact) => isError(fact) && !(fact in known.facts))
      .map((fact) => [fact, ABSENT]),
  );
}

function declares(difference: Difference, { at, fact, oracle, ours }: Finding): boolean {
  const [operation, path] = at.split(" ");
  const name =
    path
      ?.split(".")
      .at(-1)
      ?.replace(/\[\]$|\{(key|value)\}$/, "") ?? operation;
  return (
    (difference.at === at || difference.at === name) &&
    difference.fact === fact &&
    difference.aws === oracle &&
    difference.ours === ours
  );
}

/** Operations of ours that none of the oracles has. */
export function unknownOperations(oracles: readonly Service[], ours: Service): string[] {
  return [...ours.operations.keys()].filter((name) => !oracles.some(({ operations }) => operations.has(name)));
}
