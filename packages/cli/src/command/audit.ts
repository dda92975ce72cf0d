import type { AuditEvent } from "@torpor/sdk";
import { type Command, InvalidArgumentError, Option } from "commander";
import { moment } from "../moment.ts";
import { type Output, printable } from "../output.ts";
import { type CommonFlags, clientCommand, openSession } from "../session.ts";

interface AuditFlags extends CommonFlags {
  readonly since?: Date;
  readonly account?: string;
  readonly operation?: string;
  readonly outcome?: string;
  readonly follow?: boolean;
}

export function auditCommand(signal: AbortSignal): Command {
  return clientCommand("audit", "who changed what, and what came of it")
    .addOption(new Option("--since <when>", "a date, or 15m, 12h, 30d ago").argParser(moment(-1)))
    .addOption(
      new Option("--account <id>", "another account, or all; with a key of the server's own account").argParser(
        account,
      ),
    )
    .option("--operation <name>", "such as lambda:RunMicrovm or s3:*")
    .option("--outcome <outcome>", "success, failure, or the type of an error")
    .option("-f, --follow", "go on with what comes")
    .action(async ({ since, account, operation, outcome, follow, ...flags }: AuditFlags) => {
      const { client, out } = openSession(flags, signal);
      const wanted = { since, accountId: account, operation, outcome, follow };
      for await (const event of client.admin.audit(wanted, signal)) out.item(event, () => eventText(event, out));
    });
}

function account(text: string): string {
  if (text === "all") return "*";
  if (!/^\d{12}$/.test(text)) throw new InvalidArgumentError("expected twelve digits, or all");
  return text;
}

function eventText(event: AuditEvent, out: Output): string {
  const outcome = event.error === null ? String(event.status) : out.style("red", `${event.status} ${event.error}`);
  const on = [event.resource === "*" ? null : event.resource, event.target].filter((text) => text !== null).join(" ");
  const who = `${event.accountId}/${event.keyName} (${event.accessKeyId}) from ${event.sourceIp}`;
  const parts = [
    out.style("dim", event.time),
    event.operation,
    outcome,
    printable(on),
    out.style("dim", printable(who)),
  ];
  return `${parts.filter((part) => part !== "").join("  ")}\n`;
}
