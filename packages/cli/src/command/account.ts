import { Argument, Command, InvalidArgumentError } from "commander";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";
import { exportsOf } from "./key.ts";

interface CreateFlags extends CommonFlags {
  readonly name?: string;
}

/** Parses an argument: twelve digits. */
function accountId(text: string): string {
  if (!/^\d{12}$/.test(text)) throw new InvalidArgumentError("expected twelve digits");
  return text;
}

export function accountCommand(signal: AbortSignal): Command {
  const change = (name: string, summary: string, enabled: boolean) =>
    clientCommand(name, summary)
      .addArgument(new Argument("<id>", "the account's").argParser(accountId))
      .action(async (id: string, flags: CommonFlags) => {
        const { client, out } = openSession(flags, signal);
        const changed = await client.admin.setAccountEnabled(id, enabled, signal);
        out.result(changed, () => `${id} ${enabled ? "enabled" : "disabled"}`);
      });
  return new Command("account")
    .description("accounts that share the server, each with its own images, microvms, buckets and keys")
    .addCommand(
      clientCommand("create", "make an account and print the environment of its root key, the only time")
        .addArgument(new Argument("[id]", "twelve digits (default: any that are free)").argParser(accountId))
        .option("--name <name>", "to tell it from others")
        .action((id: string | undefined, flags: CreateFlags) => create(id, flags, openSession(flags, signal))),
    )
    .addCommand(clientCommand("ls", "list accounts").action((flags: CommonFlags) => list(openSession(flags, signal))))
    .addCommand(change("disable", "refuse an account's keys; its microvms go on", false))
    .addCommand(change("enable", "accept an account's keys again", true));
}

async function create(id: string | undefined, flags: CreateFlags, { client, out, signal }: Session): Promise<void> {
  const made = await client.admin.createAccount({ accountId: id, name: flags.name }, signal);
  out.result(made, () => exportsOf(made.rootKey));
  out.progress("the secret is not shown again");
}

async function list({ client, out, signal }: Session): Promise<void> {
  const items = await client.admin.accounts(signal);
  out.result(items, () =>
    out.table(
      ["ACCOUNT", "NAME", "STATUS", "CREATED"],
      items.map((account) => [
        account.accountId,
        account.name ?? "-",
        account.enabled ? (account.server ? "enabled, the server's own" : "enabled") : "disabled",
        account.createdAt,
      ]),
    ),
  );
}
