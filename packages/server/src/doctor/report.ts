import { styleText } from "node:util";
import type { Check, Report } from "./check.ts";

const COLOUR = { ok: "green", warn: "yellow", fail: "red" } as const;

/** For people: a line a check, and under what is not well what is needed and how to get it. */
export function reportText(report: Report, colour: boolean): string {
  const width = Math.max(...report.checks.map((check) => check.name.length));
  const lines = report.checks.map((check) => checkText(check, width, colour));
  const counts = (["ok", "warn", "fail"] as const).map(
    (status) => `${report.checks.filter((check) => check.status === status).length} ${status}`,
  );
  return `${lines.join("\n")}\n\n${counts.join(", ")}\n`;
}

function checkText({ name, status, found, needed, howToFix }: Check, width: number, colour: boolean): string {
  const mark = status.padEnd(4);
  const shown = colour ? styleText(COLOUR[status], mark, { validateStream: false }) : mark;
  const first = `${shown}  ${name.padEnd(width)}  ${found}`;
  if (howToFix === null) return first;
  return `${first}\n${" ".repeat(6)}needed: ${needed}\n${" ".repeat(6)}try:    ${howToFix}`;
}
