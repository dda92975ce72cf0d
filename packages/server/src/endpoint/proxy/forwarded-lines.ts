import { type HeaderLines, linesOf } from "../header-lines.ts";

const REPLACED = new Set(["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"]);

/** The lines with what we know of the client in the place of what anybody else has said of it. */
export function withForwarded(lines: HeaderLines, client: string, host: string): string[] {
  const kept: string[] = [];
  for (const [name, value] of linesOf(lines)) if (!REPLACED.has(name.toLowerCase())) kept.push(name, value);
  return [...kept, "X-Forwarded-For", client, "X-Forwarded-Host", host, "X-Forwarded-Proto", "https"];
}
