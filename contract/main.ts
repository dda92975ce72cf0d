/**
 * `npm run contract`: is our operation table AWS's? Compares it with the schemas of AWS's own JavaScript client and
 * with the models of botocore, both ways. Exit status 1, and what differs, unless they are the same or the difference
 * is declared in packages/protocol/src/compatibility/differences.ts.
 *
 *   --botocore FOLDER VERSION   with the models of an unpacked botocore instead of the ones that are checked in
 */
import { parseArgs } from "node:util";
import { DIFFERENCES } from "../packages/protocol/src/compatibility/differences.ts";
import { botocoreOracles, judge, passes, sdkOracle, type Verdict } from "./contract.ts";
import { digestOf, SERVICES } from "./oracle/digest.ts";

function lines({ comparisons, unknown, stale }: Verdict): string[] {
  const percent = (covered: number, known: number): string => `${Math.floor((covered / known) * 100)} %`;
  return [
    ...comparisons.flatMap(({ oracle, operations, members, findings }) => [
      `${oracle}: ${operations.covered} of ${operations.known} operations (${percent(operations.covered, operations.known)}), ` +
        `${members.covered} of ${members.known} members (${percent(members.covered, members.known)})`,
      ...findings.map(({ at, fact, oracle: theirs, ours }) =>
        fact === "operation" || fact === "member"
          ? `  ${at}: the ${fact} is ${theirs} there and ${ours} here`
          : `  ${at}: ${fact} is ${theirs} there and ${ours} here`,
      ),
    ]),
    ...unknown.map((name) => `${name}: no model of AWS has such an operation`),
    ...stale.map(({ at, fact, ours }) => `${at}, ${fact} ${ours}: declared as a difference, and there is none`),
    `${DIFFERENCES.length} declared differences`,
  ];
}

const { values, positionals } = parseArgs({ options: { botocore: { type: "string" } }, allowPositionals: true });
const { botocore } = values;
const oracles = botocore && botocoreOracles(SERVICES.map((s) => digestOf(botocore, positionals[0] ?? "?", s)));
const verdict = oracles ? judge(undefined, [...oracles, sdkOracle()]) : judge();
for (const line of lines(verdict)) console.log(line);
const passed = passes(verdict);
console.log(passed ? "the contract is kept" : "the contract is broken: see above");
process.exitCode = passed ? 0 : 1;
