import { randomInt } from "node:crypto";
import type * as wire from "@torpor/protocol";
import type { HostFacts } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import { conflict, invalidInput, notFound, TorporError } from "../../lib/errors.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import type { Account } from "../../store/accounts.ts";
import type { Store } from "../../store/store.ts";
import { notAllowed } from "../authorise.ts";
import type { RequestContext } from "../request-context.ts";
import type { KeyOperations } from "./key-operations.ts";
import { isOperator } from "./operator.ts";

const MAX_ACCOUNTS = 1000;

export interface AccountOperationDeps {
  readonly store: Pick<Store, "accounts">;
  readonly keyOperations: Pick<KeyOperations, "makeRoot">;
  readonly facts: Pick<HostFacts, "isolation">;
  readonly serverAccountId: string;
  /** Several accounts although guests are emulated: the setting allow-emulated-accounts. */
  readonly allowEmulated: boolean;
  readonly clock: Clock;
}

/** The accounts of this server, looked after by keys of the server's own. */
export class AccountOperations {
  readonly #deps: AccountOperationDeps;
  /** One change at a time: how many there may be is decided by looking at all. */
  readonly #mutex = new KeyedMutex<"accounts">();

  constructor(deps: AccountOperationDeps) {
    this.#deps = deps;
  }

  /**
   * Before anything is served: the server's own account is there, and guests of several are kept apart.
   * @throws TorporError `unavailable` when emulation would have to do that
   */
  async open(): Promise<void> {
    const { store, serverAccountId, clock } = this.#deps;
    const own = { id: serverAccountId, name: null, enabled: true, createdAt: new Date(clock.now()) };
    if (!(await store.accounts.insert(own))) await store.accounts.setEnabled(serverAccountId, true);
    const enabled = (await store.accounts.all()).filter((account) => account.enabled);
    if (enabled.length > 1 && this.#refusesMore())
      throw new TorporError(
        "unavailable",
        `${EMULATED} The accounts ${enabled.map(({ id }) => id).join(", ")} are enabled. ${REMEDY} To be left with one: start with allow-emulated-accounts, run torpor account disable ID for the others, and start without it.`,
      );
  }

  async create(
    context: RequestContext,
    request: { readonly accountId?: string | null | undefined; readonly name?: string | null | undefined },
  ): Promise<wire.NewAccount> {
    const { store, keyOperations, clock } = this.#deps;
    this.#refuseOthers("torpor:CreateAccount", context);
    return await this.#mutex.run("accounts", async () => {
      this.#refuseEmulated();
      if ((await store.accounts.all()).length >= MAX_ACCOUNTS)
        throw new TorporError("quota", `The server has ${MAX_ACCOUNTS} accounts, as many as it may have.`);
      const account: Account = {
        id: request.accountId ?? String(randomInt(10 ** 11, 10 ** 12 - 1)),
        name: request.name ?? null,
        enabled: true,
        createdAt: new Date(clock.now()),
      };
      if (!(await store.accounts.insert(account))) throw conflict(`There is an account ${account.id} already.`);
      return { ...this.#view(account), rootKey: await keyOperations.makeRoot(account.id) };
    });
  }

  /** Oldest first. */
  async list(context: RequestContext): Promise<readonly wire.Account[]> {
    this.#refuseOthers("torpor:ListAccounts", context);
    return (await this.#deps.store.accounts.all()).map((account) => this.#view(account));
  }

  /** The keys of an account that is not enabled are refused from now on; its microvms go on. */
  async update(context: RequestContext, accountId: string, enabled: boolean): Promise<wire.Account> {
    const { store, serverAccountId } = this.#deps;
    this.#refuseOthers("torpor:UpdateAccount", context);
    return await this.#mutex.run("accounts", async () => {
      const account = await store.accounts.find(accountId);
      if (!account) throw notFound(`Account not found: ${accountId}`);
      if (!enabled && accountId === serverAccountId)
        throw invalidInput(`${accountId} is the server's own account: it cannot be disabled.`);
      if (enabled && !account.enabled) this.#refuseEmulated();
      await store.accounts.setEnabled(accountId, enabled);
      return this.#view({ ...account, enabled });
    });
  }

  #refuseOthers(action: string, context: RequestContext): void {
    if (!isOperator(context, this.#deps.serverAccountId)) throw notAllowed(action, "*", context);
  }

  #refusesMore(): boolean {
    return this.#deps.facts.isolation === "emulated" && !this.#deps.allowEmulated;
  }

  /** There is one account always, so that another one makes several. */
  #refuseEmulated(): void {
    if (this.#refusesMore()) throw conflict(`${EMULATED} ${REMEDY}`);
  }

  #view(account: Account): wire.Account {
    return {
      accountId: account.id,
      name: account.name,
      enabled: account.enabled,
      server: account.id === this.#deps.serverAccountId,
      createdAt: account.createdAt.toISOString(),
    };
  }
}

const EMULATED =
  "Microvms are emulated on this host, which is no security boundary: it does not serve several accounts.";
const REMEDY =
  "Use a host with KVM (torpor doctor), or set allow-emulated-accounts when all accounts trust each other.";
