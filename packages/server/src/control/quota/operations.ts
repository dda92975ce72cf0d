import {
  QUOTA_NAMES,
  QUOTAS,
  type Quota,
  type QuotaName,
  type QuotaValue,
  type Quotas as Wire,
} from "@torpor/protocol";
import type { Config } from "../../config.ts";
import { invalidInput } from "../../lib/errors.ts";
import type { Store } from "../../store/store.ts";
import { notAllowed } from "../authorise.ts";
import { principalArn, ROOT } from "../identity/keys.ts";
import { isOperator } from "../identity/operator.ts";
import type { Fleet } from "../microvm/fleet.ts";
import type { RequestContext } from "../request-context.ts";
import type { Quotas } from "./quotas.ts";

export interface QuotaOperationDeps {
  readonly config: Pick<Config, "accountId">;
  readonly quotas: Quotas;
  readonly fleet: Pick<Fleet, "use">;
  readonly store: Pick<Store, "imageCounts" | "networkConnectors">;
}

/** An account's quotas for itself to see, and for the operator to set: the root of the server's own account. */
export class QuotaOperations {
  readonly #deps: QuotaOperationDeps;

  constructor(deps: QuotaOperationDeps) {
    this.#deps = deps;
  }

  /** Of the caller's own account unless another one is named. */
  async list(context: RequestContext, accountId = context.accountId): Promise<Wire> {
    if (accountId !== context.accountId) this.#refuseUnlessOperator(context, "ListQuotas", accountId);
    const { quotas } = this.#deps;
    const used = await this.#used(accountId);
    const items = QUOTA_NAMES.map((name): Quota => {
      const { describe, unit, scope, code, adjustable } = QUOTAS[name];
      const { value, source } = quotas.value(accountId, name);
      return {
        name,
        describe,
        unit,
        scope,
        code: code ?? null,
        adjustable,
        value,
        used: used.get(name) ?? null,
        source,
      };
    });
    return { accountId, items };
  }

  /** From now on; what is there already stays. */
  async set(context: RequestContext, accountId: string, name: QuotaName, value: QuotaValue): Promise<void> {
    this.#refuseUnlessOperator(context, "SetQuota", accountId);
    if (QUOTAS[name].scope === "address")
      throw invalidInput(`${name} is of callers that belong to no account yet. Set it for the server, with quotas.`);
    await this.#deps.quotas.set(accountId, name, value);
  }

  async reset(context: RequestContext, accountId: string, name: QuotaName): Promise<void> {
    this.#refuseUnlessOperator(context, "ResetQuota", accountId);
    await this.#deps.quotas.reset(accountId, name);
  }

  async #used(accountId: string): Promise<ReadonlyMap<QuotaName, number>> {
    const { fleet, store } = this.#deps;
    const { imageCounts, networkConnectors } = store;
    const { memoryMib, running } = fleet.use(accountId);
    return new Map([
      ["allocated-memory-mib", memoryMib],
      ["running-microvms", running],
      ["images", await imageCounts.images(accountId)],
      ["versions-per-image", await imageCounts.mostVersions(accountId)],
      ["network-connectors", await networkConnectors.count(accountId)],
      ["concurrent-builds", await imageCounts.unfinishedBuilds(accountId)],
    ]);
  }

  #refuseUnlessOperator(context: RequestContext, operation: string, accountId: string): void {
    if (isOperator(context, this.#deps.config.accountId)) return;
    throw notAllowed(`torpor:${operation}`, principalArn(accountId, ROOT), context);
  }
}
