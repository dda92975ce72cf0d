import { formatQuotaValue, isQuotaName, parseQuotaValue, type QuotaName, type QuotaValue } from "@torpor/protocol";
import type { Quota } from "@torpor/sdk";
import { Argument, type Command, InvalidArgumentError } from "commander";
import { usage } from "../failure.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";

interface QuotaFlags extends CommonFlags {
  readonly account?: string;
}

export function quotasCommand(signal: AbortSignal): Command {
  return accountOption(clientCommand("quotas", "what an account may have and how often it may ask, and what is used"))
    .enablePositionalOptions()
    .action((flags: QuotaFlags) => list(flags, openSession(flags, signal)))
    .addCommand(
      accountOption(clientCommand("set", "set a quota of an account, as the server's operator"))
        .addArgument(quotaArgument())
        .addArgument(new Argument("<value>", "a whole number, or unlimited"))
        .action((name: QuotaName, value: string, flags: QuotaFlags) =>
          set(name, quotaValue(name, value), flags, openSession(flags, signal)),
        ),
    )
    .addCommand(
      accountOption(clientCommand("reset", "let an account have what the server's settings say again"))
        .addArgument(quotaArgument())
        .action((name: QuotaName, flags: QuotaFlags) => reset(name, flags, openSession(flags, signal))),
    );
}

const accountOption = (command: Command): Command =>
  command.option("--account <id>", "of this account; default: the one that the key belongs to");

const quotaArgument = (): Argument =>
  new Argument("<quota>", "as torpor quotas lists them").argParser((name) => {
    if (!isQuotaName(name)) throw new InvalidArgumentError("torpor quotas lists them");
    return name;
  });

function quotaValue(name: QuotaName, text: string): QuotaValue {
  try {
    return parseQuotaValue(name, text);
  } catch (err) {
    throw usage(err instanceof Error ? err.message : String(err));
  }
}

async function list({ account }: QuotaFlags, { client, out, signal }: Session): Promise<void> {
  const quotas = await client.quotas({ accountId: account }, signal);
  out.result(quotas, () => out.table(["QUOTA", "USED", "LIMIT", "SET BY", "WHAT IT BOUNDS"], quotas.items.map(row)));
}

function row({ name, used, value, unit, source, describe }: Quota): string[] {
  const limit = value === null ? "unlimited" : `${value} ${unit}`;
  return [name, used === null ? "-" : String(used), limit, source, describe];
}

async function set(name: QuotaName, value: QuotaValue, flags: QuotaFlags, session: Session): Promise<void> {
  const { client, out, signal } = session;
  const accountId = await accountOf(flags, session);
  await client.setQuota(accountId, name, value, signal);
  out.result({ accountId, name, value }, () => `${accountId} ${name} ${formatQuotaValue(value)}`);
}

async function reset(name: QuotaName, flags: QuotaFlags, session: Session): Promise<void> {
  const { client, out, signal } = session;
  const accountId = await accountOf(flags, session);
  await client.resetQuota(accountId, name, signal);
  const { items } = await client.quotas({ accountId }, signal);
  const value = items.find((quota) => quota.name === name)?.value ?? null;
  out.result({ accountId, name, value }, () => `${accountId} ${name} ${formatQuotaValue(value)}`);
}

async function accountOf({ account }: QuotaFlags, { client, signal }: Session): Promise<string> {
  return account ?? (await client.quotas({}, signal)).accountId;
}
