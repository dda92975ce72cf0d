import type * as wire from "@torpor/protocol";
import { ACCESS_KEY_NAME } from "@torpor/protocol";
import type { Clock } from "../../lib/clock.ts";
import { conflict, invalidInput, notFound, TorporError } from "../../lib/errors.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import type { StoredAccessKey } from "../../store/access-keys.ts";
import type { Store } from "../../store/store.ts";
import type { RequestContext } from "../request-context.ts";
import { type Keys, ROOT } from "./keys.ts";
import { looksAfter } from "./operator.ts";
import { parsePolicy } from "./policy.ts";

const MAX_KEYS_OF_ACCOUNT = 500;
/** Of one name: an old one and its successor. */
const MAX_KEYS_OF_NAME = 2;

export interface KeyOperationDeps {
  readonly store: Pick<Store, "accessKeys" | "accounts">;
  readonly keys: Keys;
  readonly clock: Clock;
  /** Of the account whose keys look after the others. */
  readonly serverAccountId: string;
}

export interface NewKeyRequest {
  readonly accountId?: string | null | undefined;
  readonly name: string;
  readonly policy?: unknown;
  readonly expiresAt?: Date | null | undefined;
}
export interface KeyChange {
  readonly enabled?: boolean | undefined;
  /** null: never. */
  readonly expiresAt?: Date | null | undefined;
}

/** Access keys for those who look after them: each account for its own, the server's account for all. */
export class KeyOperations {
  readonly #deps: KeyOperationDeps;
  /** By account: what is decided by looking at all of its keys. */
  readonly #mutex = new KeyedMutex<string>();

  constructor(deps: KeyOperationDeps) {
    this.#deps = deps;
  }

  async create(context: RequestContext, request: NewKeyRequest): Promise<wire.NewAccessKey> {
    const { name } = request;
    if (name === ROOT)
      throw invalidInput("The name root is the root keys' own. Rotate the root key to get another one.");
    if (!ACCESS_KEY_NAME.test(name))
      throw invalidInput(`A key's name has 1 to 64 letters, digits and any of +=,.@_-, got ${JSON.stringify(name)}.`);
    const policy = request.policy === undefined || request.policy === null ? null : request.policy;
    if (policy !== null) parsePolicy(policy);
    const expiresAt = this.#future(request.expiresAt ?? null);
    const accountId = await this.#account(request.accountId, context);
    return await this.#mutex.run(accountId, async () => {
      const rows = await this.#rows(accountId);
      const same = rows.find((row) => row.name === name);
      if (same)
        throw conflict(`There is a key named ${name} already: ${same.accessKeyId}. Rotate it, or take another name.`);
      return await this.#make({ accountId, name, policy: policy === null ? null : JSON.stringify(policy), expiresAt });
    });
  }

  /** Oldest first. */
  async list(context: RequestContext, wanted: string | undefined): Promise<readonly wire.AccessKey[]> {
    const accountId = await this.#account(wanted, context);
    return (await this.#deps.store.accessKeys.ofAccount(accountId)).map((row) => this.#view(row));
  }

  async update(context: RequestContext, accessKeyId: string, change: KeyChange): Promise<wire.AccessKey> {
    const expiresAt = change.expiresAt instanceof Date ? this.#future(change.expiresAt) : change.expiresAt;
    return await this.#changing(context, accessKeyId, async (row) => {
      if (change.enabled === false || expiresAt instanceof Date) await this.#refuseLastRoot(row);
      await this.#deps.store.accessKeys.update(accessKeyId, {
        ...(change.enabled !== undefined && { enabled: change.enabled }),
        ...(expiresAt !== undefined && { expiresAt }),
      });
      return this.#view(await this.#own(context, accessKeyId));
    });
  }

  /**
   * Another key for the same, with the same policy and as long a life. The old one stays valid until it is disabled,
   * deleted or has expired.
   */
  async rotate(context: RequestContext, accessKeyId: string): Promise<wire.NewAccessKey> {
    return await this.#changing(context, accessKeyId, async (old) => {
      const rows = await this.#rows(old.accountId);
      const others = rows.filter((row) => row.name === old.name && row.accessKeyId !== accessKeyId);
      if (others.length >= MAX_KEYS_OF_NAME - 1)
        throw conflict(
          `${old.name} has another key already: ${others.map((row) => row.accessKeyId).join(", ")}. Delete the one that is not used any more.`,
        );
      const { accountId, name, policy } = old;
      const life = old.expiresAt && old.expiresAt.getTime() - old.createdAt.getTime();
      const expiresAt = life === null ? null : new Date(this.#deps.clock.now() + life);
      return await this.#make({ accountId, name, policy, expiresAt }, old);
    });
  }

  async delete(context: RequestContext, accessKeyId: string): Promise<void> {
    await this.#changing(context, accessKeyId, async (row) => {
      await this.#refuseLastRoot(row);
      await this.#deps.store.accessKeys.delete(accessKeyId);
    });
  }

  /** The document as it was put; null when the key may do everything. */
  async policy(context: RequestContext, accessKeyId: string): Promise<unknown> {
    const { policy } = await this.#own(context, accessKeyId);
    return policy === null ? null : JSON.parse(policy);
  }

  /** null: everything. */
  async putPolicy(context: RequestContext, accessKeyId: string, policy: unknown): Promise<void> {
    if (policy !== null) parsePolicy(policy);
    await this.#changing(context, accessKeyId, async (row) => {
      if (row.name === ROOT)
        throw invalidInput(
          "A root key may do everything in its account. Make another key, and give that one a policy.",
        );
      await this.#deps.store.accessKeys.update(accessKeyId, {
        policy: policy === null ? null : JSON.stringify(policy),
      });
    });
  }

  /** The key that a new account begins with. */
  async makeRoot(accountId: string): Promise<wire.NewAccessKey> {
    return await this.#make({ accountId, name: ROOT, policy: null, expiresAt: null });
  }

  async #make(...wish: Parameters<Keys["make"]>): Promise<wire.NewAccessKey> {
    const { key, row } = await this.#deps.keys.make(...wish);
    if (row.name === ROOT) await this.#deps.keys.rootChanged(row.accountId);
    return { ...this.#view(row), secretAccessKey: key.secretAccessKey };
  }

  async #changing<T>(
    context: RequestContext,
    accessKeyId: string,
    work: (row: StoredAccessKey) => Promise<T>,
  ): Promise<T> {
    const { accountId, name } = await this.#own(context, accessKeyId);
    return await this.#mutex.run(accountId, async () => {
      const result = await work(await this.#own(context, accessKeyId));
      if (name === ROOT) await this.#deps.keys.rootChanged(accountId);
      return result;
    });
  }

  /** @throws TorporError `not_found`, also for a key that is not the caller's to look after */
  async #own(context: RequestContext, accessKeyId: string): Promise<StoredAccessKey> {
    const row = await this.#deps.store.accessKeys.find(accessKeyId);
    if (!row || !looksAfter(context, row.accountId, this.#deps.serverAccountId))
      throw notFound(`Access key not found: ${accessKeyId}`);
    return row;
  }

  async #account(wanted: string | null | undefined, context: RequestContext): Promise<string> {
    const accountId = wanted ?? context.accountId;
    const known =
      looksAfter(context, accountId, this.#deps.serverAccountId) && (await this.#deps.store.accounts.find(accountId));
    if (!known) throw notFound(`Account not found: ${accountId}`);
    return accountId;
  }

  async #rows(accountId: string): Promise<StoredAccessKey[]> {
    const rows = await this.#deps.store.accessKeys.ofAccount(accountId);
    if (rows.length >= MAX_KEYS_OF_ACCOUNT)
      throw new TorporError(
        "quota",
        `The account has ${rows.length} access keys, as many as it may have. Delete some.`,
      );
    return rows;
  }

  /** An account that nobody can get into any more would be lost to all but the server's own. */
  async #refuseLastRoot(row: StoredAccessKey): Promise<void> {
    if (row.name !== ROOT) return;
    const others = (await this.#deps.store.accessKeys.ofAccount(row.accountId)).filter(
      (other) => other.name === ROOT && other.accessKeyId !== row.accessKeyId && this.#status(other) === "ACTIVE",
    );
    if (others.length === 0)
      throw conflict(
        `${row.accessKeyId} is the only root key of the account ${row.accountId} that can be used. Rotate it first.`,
      );
  }

  #future(at: Date | null): Date | null {
    if (at !== null && at.getTime() <= this.#deps.clock.now())
      throw invalidInput(`The key would have expired at ${at.toISOString()} already. Disable it instead.`);
    return at;
  }

  #status(row: StoredAccessKey): wire.AccessKeyStatus {
    if (!row.enabled) return "DISABLED";
    return this.#deps.keys.hasExpired(row) ? "EXPIRED" : "ACTIVE";
  }

  #view(row: StoredAccessKey): wire.AccessKey {
    const { accessKeyId, accountId, name, principalArn } = row;
    return {
      accessKeyId,
      accountId,
      name,
      principalArn,
      status: this.#status(row),
      access: row.policy === null ? "full" : "policy",
      createdAt: row.createdAt.toISOString(),
      expiresAt: row.expiresAt?.toISOString() ?? null,
      lastUsedAt: this.#deps.keys.lastUse(row)?.toISOString() ?? null,
    };
  }
}
