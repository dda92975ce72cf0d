import {
  isQuotaName,
  isRateName,
  parseQuotas,
  presetValue,
  type QuotaName,
  type QuotaSource,
  type QuotaValue,
} from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { AccountQuotas } from "../../store/account-quotas.ts";
import type { Rate, Rates } from "../request-context.ts";

export interface QuotaDeps {
  readonly config: Pick<Config, "region" | "quotaPreset" | "quotas">;
  readonly rows: AccountQuotas;
}

/** A fork is a launch. */
const ASKED_AS: ReadonlyMap<string, string> = new Map([
  ["ForkMicrovm", "RunMicrovm"],
  ["ForkCheckpoint", "RunMicrovm"],
]);

/**
 * What every account may have, and how often it may ask: its own value, else the settings', else the preset's. Known in
 * memory, since every request asks.
 */
export class Quotas implements Rates {
  readonly #config: QuotaDeps["config"];
  readonly #rows: AccountQuotas;
  readonly #configured: ReadonlyMap<QuotaName, QuotaValue>;
  readonly #ofAccounts = new Map<string, Map<QuotaName, QuotaValue>>();

  private constructor({ config, rows }: QuotaDeps) {
    this.#config = config;
    this.#rows = rows;
    this.#configured = parseQuotas(config.quotas);
  }

  static async load(deps: QuotaDeps): Promise<Quotas> {
    const quotas = new Quotas(deps);
    for (const { accountId, name, value } of await deps.rows.all())
      if (isQuotaName(name)) quotas.#remember(accountId, name, value);
    return quotas;
  }

  /** Infinity when it is unlimited. */
  limit(accountId: string, name: QuotaName): number {
    return this.value(accountId, name).value ?? Number.POSITIVE_INFINITY;
  }

  value(accountId: string, name: QuotaName): { readonly value: QuotaValue; readonly source: QuotaSource } {
    const account = this.#ofAccounts.get(accountId)?.get(name);
    if (account !== undefined) return { value: account, source: "account" };
    const configured = this.#configured.get(name);
    if (configured !== undefined) return { value: configured, source: "config" };
    return { value: presetValue(this.#config.quotaPreset, this.#config.region, name), source: "default" };
  }

  operation(accountId: string, operation: string): Rate & { readonly bucket: string } {
    const bucket = ASKED_AS.get(operation) ?? operation;
    const name = isRateName(bucket) && bucket !== "unauthenticated" ? bucket : "other-operations";
    return {
      bucket,
      perSecond: this.limit(accountId, `${name}.rate`),
      burst: this.limit(accountId, `${name}.burst`),
    };
  }

  /** Of nobody's account, so nobody's account has another one. */
  stranger(): Rate {
    return {
      perSecond: this.limit("", "unauthenticated.rate"),
      burst: this.limit("", "unauthenticated.burst"),
    };
  }

  async set(accountId: string, name: QuotaName, value: QuotaValue): Promise<void> {
    await this.#rows.set({ accountId, name, value });
    this.#remember(accountId, name, value);
  }

  /** Back to what accounts have without more. */
  async reset(accountId: string, name: QuotaName): Promise<void> {
    await this.#rows.remove(accountId, name);
    const own = this.#ofAccounts.get(accountId);
    own?.delete(name);
    if (own?.size === 0) this.#ofAccounts.delete(accountId);
  }

  #remember(accountId: string, name: QuotaName, value: QuotaValue): void {
    const own = this.#ofAccounts.get(accountId) ?? new Map<QuotaName, QuotaValue>();
    this.#ofAccounts.set(accountId, own.set(name, value));
  }
}
