import type { AccessKey, Account, AuditEvent, NewAccessKey, NewAccount } from "@torpor/protocol";
import { fieldsOf, listIn } from "./fields.ts";
import { parseAccessKey, parseAccount, parseAuditEvent, parseNewAccessKey, parseNewAccount } from "./identity.ts";
import { linesOf, textOf } from "./lines.ts";
import type { Transport } from "./transport.ts";
import { encodeLabel } from "./wire.ts";

const NEVER = new AbortController().signal;

export interface NewKeyOptions {
  readonly name: string;
  /** Another account's, for keys of the server's own. */
  readonly accountId?: string | undefined;
  /** In IAM's shape; without one the key may do everything in its account. */
  readonly policy?: unknown;
  readonly expiresAt?: Date | undefined;
}
export interface AuditOptions {
  /** `*`: all accounts, for keys of the server's own. */
  readonly accountId?: string | undefined;
  readonly since?: Date | undefined;
  /** With `*` and `?`. */
  readonly operation?: string | undefined;
  /** `success`, `failure`, or the type of an error. */
  readonly outcome?: string | undefined;
  readonly follow?: boolean | undefined;
}

/** Who may do what on a Torpor server, and who did: access keys, their policies, accounts, and the audit trail. */
export class Administration {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The only answer that has the key's secret. */
  async createKey(options: NewKeyOptions, signal: AbortSignal = NEVER): Promise<NewAccessKey> {
    return parseNewAccessKey(await this.#send("POST", "/torpor/v1/keys", options, signal));
  }

  /** Oldest first. */
  async keys(
    filter: { readonly accountId?: string | undefined } = {},
    signal: AbortSignal = NEVER,
  ): Promise<readonly AccessKey[]> {
    const answer = await this.#send("GET", `/torpor/v1/keys${queryOf({ ...filter })}`, undefined, signal);
    return listIn(fieldsOf(answer), "items", "list of access keys").map(parseAccessKey);
  }

  /** `expiresAt: null`: never. */
  async updateKey(
    accessKeyId: string,
    change: { readonly enabled?: boolean; readonly expiresAt?: Date | null },
    signal: AbortSignal = NEVER,
  ): Promise<AccessKey> {
    return parseAccessKey(await this.#send("PATCH", keyPath(accessKeyId), change, signal));
  }

  /** Another key for the same; the old one stays valid. */
  async rotateKey(accessKeyId: string, signal: AbortSignal = NEVER): Promise<NewAccessKey> {
    return parseNewAccessKey(await this.#send("POST", `${keyPath(accessKeyId)}/rotate`, undefined, signal));
  }

  async deleteKey(accessKeyId: string, signal: AbortSignal = NEVER): Promise<void> {
    await this.#send("DELETE", keyPath(accessKeyId), undefined, signal);
  }

  /** The document as it was put; null when the key may do everything. */
  async policy(accessKeyId: string, signal: AbortSignal = NEVER): Promise<unknown> {
    const answer = await this.#send("GET", `${keyPath(accessKeyId)}/policy`, undefined, signal);
    return fieldsOf(answer).get("policy") ?? null;
  }

  /** null: the key may do everything. */
  async setPolicy(accessKeyId: string, policy: unknown, signal: AbortSignal = NEVER): Promise<void> {
    const path = `${keyPath(accessKeyId)}/policy`;
    if (policy === null) await this.#send("DELETE", path, undefined, signal);
    else await this.#send("PUT", path, policy, signal);
  }

  async createAccount(
    options: { readonly accountId?: string | undefined; readonly name?: string | undefined } = {},
    signal: AbortSignal = NEVER,
  ): Promise<NewAccount> {
    return parseNewAccount(await this.#send("POST", "/torpor/v1/accounts", options, signal));
  }

  /** Oldest first. */
  async accounts(signal: AbortSignal = NEVER): Promise<readonly Account[]> {
    const answer = await this.#send("GET", "/torpor/v1/accounts", undefined, signal);
    return listIn(fieldsOf(answer), "items", "list of accounts").map(parseAccount);
  }

  async setAccountEnabled(accountId: string, enabled: boolean, signal: AbortSignal = NEVER): Promise<Account> {
    const path = `/torpor/v1/accounts/${encodeLabel(accountId)}`;
    return parseAccount(await this.#send("PATCH", path, { enabled }, signal));
  }

  /** Oldest first; with `follow` the stream goes on. */
  async *audit(options: AuditOptions = {}, signal: AbortSignal = NEVER): AsyncGenerator<AuditEvent, void> {
    const { since, follow, ...rest } = options;
    const query = queryOf({ ...rest, since: since?.toISOString(), follow: follow ? "true" : undefined });
    const response = await this.#transport.send({ method: "GET", target: `/torpor/v1/audit${query}` }, signal);
    for await (const line of linesOf(textOf(response, signal)))
      if (line !== "") yield parseAuditEvent(JSON.parse(line));
  }

  #send(method: string, target: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    const json = body === undefined ? {} : { body: JSON.stringify(body), headers };
    return this.#transport.json({ method, target, ...json }, signal);
  }
}

const keyPath = (id: string): string => `/torpor/v1/keys/${encodeLabel(id)}`;

function queryOf(parameters: Readonly<Record<string, string | undefined>>): string {
  const pairs = Object.entries(parameters).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeLabel(value)}`],
  );
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}
