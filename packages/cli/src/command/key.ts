import { readFileSync } from "node:fs";
import type { AccessKey, NewAccessKey } from "@torpor/sdk";
import { Argument, Command, Option } from "commander";
import { Failure, usage } from "../failure.ts";
import { moment } from "../moment.ts";
import { age } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";
import { quote } from "./env.ts";

interface KeyFlags extends CommonFlags {
  readonly account?: string;
}
interface CreateFlags extends KeyFlags {
  readonly policy?: string;
  readonly expires?: Date;
}
interface PolicyFlags extends KeyFlags {
  readonly remove?: boolean;
}

const KEY = new Argument("<key>", "id, or name where there is one key of it");

export function keyCommand(signal: AbortSignal): Command {
  const keyed = (name: string, summary: string) => ofAccount(clientCommand(name, summary));
  return new Command("key")
    .description("access keys: who may use the server, and for what")
    .addCommand(
      keyed("create", 'make a key and print its environment, the only time: eval "$(torpor key create NAME)"')
        .addArgument(new Argument("<name>", "whom it is for"))
        .option("--policy <file>", "what it may do, in IAM's JSON; - reads stdin (default: everything in its account)")
        .addOption(new Option("--expires <when>", "a date, or 12h, 30d from now (default: never)").argParser(moment(1)))
        .action((name: string, flags: CreateFlags) => create(name, flags, openSession(flags, signal))),
    )
    .addCommand(keyed("ls", "list keys").action((flags: KeyFlags) => list(flags, openSession(flags, signal))))
    .addCommand(
      keyed("rotate", "make another key for the same; the old one stays valid until it is disabled or removed")
        .addArgument(new Argument("[key]", "id, or name").default("root"))
        .action((key: string, flags: KeyFlags) => rotate(key, flags, openSession(flags, signal))),
    )
    .addCommand(
      keyed("policy", "show what a key may do, or set it")
        .addArgument(KEY)
        .addArgument(new Argument("[file]", "the new policy, in IAM's JSON; - reads stdin"))
        .option("--remove", "let it do everything in its account")
        .action((key: string, file: string | undefined, flags: PolicyFlags) =>
          policy(key, file, flags, openSession(flags, signal)),
        ),
    )
    .addCommand(
      keyed("expire", "set when a key expires")
        .addArgument(KEY)
        .addArgument(new Argument("<when>", "a date, or 12h, 30d from now, or never"))
        .action((key: string, when: string, flags: KeyFlags) => {
          const expiresAt = when === "never" ? null : moment(1)(when);
          return change(key, { expiresAt }, flags, openSession(flags, signal));
        }),
    )
    .addCommand(
      keyed("disable", "refuse a key until it is enabled again")
        .addArgument(KEY)
        .action((key: string, flags: KeyFlags) => change(key, { enabled: false }, flags, openSession(flags, signal))),
    )
    .addCommand(
      keyed("enable", "accept a key again")
        .addArgument(KEY)
        .action((key: string, flags: KeyFlags) => change(key, { enabled: true }, flags, openSession(flags, signal))),
    )
    .addCommand(
      keyed("rm", "delete keys: who has them is refused from now on")
        .addArgument(new Argument("<key...>", "ids, or names where there is one key of it"))
        .action(async (keys: string[], flags: KeyFlags) => {
          const session = openSession(flags, signal);
          for (const key of keys) {
            const { accessKeyId, name } = await find(key, flags, session);
            await session.client.admin.deleteKey(accessKeyId, signal);
            session.out.item({ accessKeyId, deleted: true }, () => `${accessKeyId} (${name}) deleted`);
          }
        }),
    );
}

const ofAccount = (command: Command): Command =>
  command.option("--account <id>", "another account's, with a key of the server's own account");

async function create(name: string, flags: CreateFlags, { client, out, signal }: Session): Promise<void> {
  const policy = flags.policy === undefined ? undefined : readPolicy(flags.policy);
  const made = await client.admin.createKey(
    { name, accountId: flags.account, policy, expiresAt: flags.expires },
    signal,
  );
  out.result(made, () => exportsOf(made));
  out.progress("the secret is not shown again");
}

/** What a shell takes over to use the key. */
export function exportsOf(key: NewAccessKey): string {
  const variables = {
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    AWS_ACCOUNT_ID: key.accountId,
  };
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}=${quote(value)}`)
    .join("\n");
}

async function list({ account }: KeyFlags, { client, out, signal }: Session): Promise<void> {
  const items = await client.admin.keys({ accountId: account }, signal);
  const now = new Date();
  const ago = (time: string | null): string => (time === null ? "never" : `${age(new Date(time), now)} ago`);
  out.result(items, () =>
    out.table(
      ["KEY", "NAME", "STATUS", "MAY", "CREATED", "LAST USED", "EXPIRES"],
      items.map((key) => [
        key.accessKeyId,
        key.name,
        key.status,
        key.access === "full" ? "everything" : "its policy",
        ago(key.createdAt),
        ago(key.lastUsedAt),
        key.expiresAt ?? "never",
      ]),
    ),
  );
}

async function rotate(key: string, flags: KeyFlags, session: Session): Promise<void> {
  const { client, out, signal } = session;
  const old = key === "root" ? await newestRoot(flags, session) : await find(key, flags, session);
  const made = await client.admin.rotateKey(old.accessKeyId, signal);
  out.result(made, () => exportsOf(made));
  out.progress(`the secret is not shown again; ${old.accessKeyId} is still valid: torpor key rm ${old.accessKeyId}`);
}

async function policy(
  key: string,
  file: string | undefined,
  { remove, ...flags }: PolicyFlags,
  session: Session,
): Promise<void> {
  const { client, out, signal } = session;
  if (remove && file !== undefined) throw usage("--remove and a file cannot be given together");
  const document = remove ? null : file === undefined ? undefined : readPolicy(file);
  const { accessKeyId, name } = await find(key, flags, session);
  if (document !== undefined) await client.admin.setPolicy(accessKeyId, document, signal);
  const now = document === undefined ? await client.admin.policy(accessKeyId, signal) : document;
  out.result(now, () => (now === null ? `${name} may do everything in its account` : JSON.stringify(now, null, 2)));
}

async function change(
  key: string,
  wish: { readonly enabled?: boolean; readonly expiresAt?: Date | null },
  flags: KeyFlags,
  session: Session,
): Promise<void> {
  const { client, out, signal } = session;
  const { accessKeyId } = await find(key, flags, session);
  const changed = await client.admin.updateKey(accessKeyId, wish, signal);
  const until = changed.expiresAt === null ? "" : `, expires ${changed.expiresAt}`;
  out.result(changed, () => `${accessKeyId} (${changed.name}) ${changed.status}${until}`);
}

/** @throws Failure when there is none, or more than one of that name */
async function find(key: string, { account }: KeyFlags, { client, signal }: Session): Promise<AccessKey> {
  const keys = await client.admin.keys({ accountId: account }, signal);
  const byId = keys.find(({ accessKeyId }) => accessKeyId === key);
  const named = keys.filter(({ name }) => name === key);
  const [only] = named;
  if (named.length > 1 && !byId)
    throw new Failure(
      `${key} has several keys: ${named.map(({ accessKeyId }) => accessKeyId).join(", ")}`,
      "the same command with the id of one of them",
    );
  const found = byId ?? only;
  if (!found) throw new Failure(`there is no key ${key}`, "torpor key ls");
  return found;
}

async function newestRoot({ account }: KeyFlags, { client, signal }: Session): Promise<AccessKey> {
  const keys = await client.admin.keys({ accountId: account }, signal);
  const root = keys.findLast(({ name, status }) => name === "root" && status === "ACTIVE");
  if (!root) throw new Failure("the account has no root key that can be used", "torpor key ls");
  return root;
}

/** @throws Failure when it is no JSON */
function readPolicy(file: string): unknown {
  const text = readFileSync(file === "-" ? 0 : file, "utf8");
  try {
    return JSON.parse(text);
  } catch {
    throw usage(`${file === "-" ? "what came on stdin" : file} is not JSON`);
  }
}
