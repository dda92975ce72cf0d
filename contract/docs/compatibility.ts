import { DIFFERENCES } from "../../packages/protocol/src/compatibility/differences.ts";
import {
  BEHAVIOURS,
  LATER,
  LATER_MODEL,
  REVIEWED,
  SUPPORT,
  type Support,
} from "../../packages/protocol/src/compatibility/support.ts";
import { OPERATIONS } from "../../packages/protocol/src/operations.ts";
import type { Members, Operation, Shape } from "../../packages/protocol/src/shape.ts";
import { botocoreOracles, sdkOracle } from "../contract.ts";

/** docs/compatibility.md, from the operation table and what is written beside it. */
export function compatibilityText(): string {
  const operations = Object.entries<Operation>(OPERATIONS);
  const sources = [...botocoreOracles(), sdkOracle()].map(({ source }) => source);
  return `${[
    HEAD,
    `Compared with: ${sources.join("; ")}.`,
    "## Where the table differs from AWS's models",
    table(
      ["member", "what", "AWS", "here", "because"],
      DIFFERENCES.map(({ at, fact, aws, ours, reason }) => [code(at), fact, aws, ours, reason]),
    ),
    "## Where the server behaves differently",
    table(
      ["what", "AWS", "here", "because"],
      BEHAVIOURS.map(({ what, aws, ours, reason }) => [what, aws, ours, reason]),
    ),
    `## What later models have\n\nNot in the table, but in that of ${LATER_MODEL}, so that newer clients may send it:`,
    table(
      ["what", "what happens"],
      LATER.map(({ what, effect }) => [what, effect]),
    ),
    "## Operations",
    summary(operations),
    ...operations.flatMap(([name, operation]) => section(name, operation)),
  ].join("\n\n")}\n`;
}

const HEAD = `# Compatibility with AWS Lambda MicroVMs

<!-- Made by \`npm run docs:compatibility\`; do not edit. The notes are in packages/protocol/src/compatibility. -->

The operations are one table, \`packages/protocol/src/operations\`. \`npm run contract\` compares it with AWS's own models:
methods, paths, statuses, members, types, constraints, errors. Every way in which an input can break a constraint is
tried over HTTP, and the answers are AWS's to the letter where they are known. What the server then does with each member
is said here: _honoured_, as AWS documents it; _partly_, some of its values or less of an effect; _refused_ with an error;
_ignored_, accepted and shown without any effect.`;

const code = (text: string): string => `\`${text}\``;

function summary(operations: readonly (readonly [string, Operation])[]): string {
  const all = operations.flatMap(([name, { input, output }]) =>
    [...rowsOf(name, input, "input"), ...rowsOf(name, output, "output")].map(({ support }) => support),
  );
  const count = (support: Support | undefined): number => all.filter((one) => one === support).length;
  const unknown = count(undefined);
  return (
    `${operations.length} operations with ${all.length} members, nested ones counted: ${count("honoured")} honoured, ` +
    `${count("partly")} partly, ${count("refused")} refused, ${count("ignored")} ignored` +
    `${unknown === 0 ? "" : `, ${unknown} of operations that nobody has gone through`}.`
  );
}

function section(name: string, operation: Operation): string[] {
  const { method, uri, status, input, output, errors } = operation;
  const told = rowsOf(name, output, "output").filter(({ note }) => note !== "");
  const top = Object.keys(output).map(code);
  const answer = top.length === 0 ? "The answer has no members." : `The answer has ${top.join(", ")}.`;
  const given = rowsOf(name, input, "input");
  return [
    `### ${name}`,
    `${code(`${method} ${uri}`)} → ${status}. Errors: ${errors.map(code).join(", ")}.`,
    ...(REVIEWED.includes(name) ? [] : ["**Nobody has gone through what it does with its members.**"]),
    ...(given.length === 0 ? [] : [table(["member", "takes", "support", "note"], given.map(cells))]),
    answer,
    ...(told.length === 0 ? [] : [table(["member of the answer", "is", "support", "note"], told.map(cells))]),
  ];
}

interface Row {
  readonly path: string;
  readonly takes: string;
  /** Undefined when nobody has looked. */
  readonly support: Support | undefined;
  readonly note: string;
}

const cells = ({ path, takes, support, note }: Row): string[] => [code(path), takes, support ?? "?", note];

/** A row a member, nested ones too; those inside a member that is not honoured are as it is. */
function rowsOf(name: string, members: Members, side: "input" | "output"): Row[] {
  const rows: Row[] = [];
  const walk = (inside: Members, prefix: string, outer: Support): void => {
    for (const [member, { shape, required }] of Object.entries(inside)) {
      const path = prefix + member;
      const found = noteOn(name, `${side}.${path}`);
      const support = found?.support ?? outer;
      const note = found?.note ?? "";
      const takes = `${required ? "required: " : ""}${taken(shape)}`;
      rows.push({ path, takes, support: REVIEWED.includes(name) ? support : undefined, note });
      const inner = shape.type === "list" ? shape.member : shape;
      if (inner.type === "structure" || inner.type === "union")
        walk(inner.members, `${path}${shape.type === "list" ? "[]" : ""}.`, support);
    }
  };
  walk(members, "", "honoured");
  return rows;
}

const noteOn = (name: string, path: string) =>
  SUPPORT.find(({ at }) => at === `${name} ${path}`) ?? SUPPORT.find(({ at }) => at === path);

/** Notes on what is not there. */
export function strayNotes(): string[] {
  const paths = new Set(
    Object.entries<Operation>(OPERATIONS).flatMap(([name, { input, output }]) =>
      (["input", "output"] as const).flatMap((side) =>
        rowsOf(name, side === "input" ? input : output, side).flatMap(({ path }) => [
          `${side}.${path}`,
          `${name} ${side}.${path}`,
        ]),
      ),
    ),
  );
  const operations = Object.keys(OPERATIONS);
  return [
    ...SUPPORT.map(({ at }) => at).filter((at) => !paths.has(at)),
    ...REVIEWED.filter((name) => !operations.includes(name)),
  ];
}

function taken(shape: Shape): string {
  const between = (what: string, { min, max }: { readonly min?: number; readonly max?: number }): string => {
    const unit = what === "" ? "" : ` ${what}`;
    if (min !== undefined && max !== undefined) return `${min} to ${max}${unit}`;
    if (min) return `at least ${min}${unit}`;
    return max === undefined ? "" : `at most ${max}${unit}`;
  };
  const bounded = (name: string, bounds: string): string => (bounds === "" ? name : `${name}, ${bounds}`);
  switch (shape.type) {
    case "string":
      return bounded(shape.sensitive ? "secret text" : "text", between("characters", shape));
    case "enum":
      return shape.values.map(code).join(", ");
    case "integer":
      return bounded("whole number", between("", shape));
    case "boolean":
      return "boolean";
    case "timestamp":
      return shape.format === "iso8601" ? "ISO 8601 time" : "time";
    case "list": {
      const items = ["structure", "union"].includes(shape.member.type) ? "list" : `list of ${plural(shape.member)}`;
      return bounded(items, between("items", shape));
    }
    case "map":
      return bounded("map of texts", between("entries", shape));
    case "structure":
      return "structure";
    case "union":
      return "one of";
    default:
      return shape satisfies never;
  }
}

const plural = (shape: Shape): string => (shape.type === "string" ? "texts" : taken(shape));

/** As the formatter has it: columns of equal width, which it counts in characters. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const escaped = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((cell, i) => Math.max(cell.length, 3, ...escaped.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...escaped.map(line)].join("\n");
}
