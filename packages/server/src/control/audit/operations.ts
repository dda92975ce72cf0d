import type { AuditEvent } from "@torpor/protocol";
import { notAllowed } from "../authorise.ts";
import { principalArn, ROOT } from "../identity/keys.ts";
import { looksAfter } from "../identity/operator.ts";
import type { RequestContext } from "../request-context.ts";
import { type AuditFilter, readTrail } from "./read-trail.ts";
import type { AuditTrail } from "./trail.ts";

type Trail = Pick<AuditTrail, "folder" | "end" | "changed">;

/** Stands for all accounts. */
export const ALL_ACCOUNTS = "*";

/** The trail for those who look after an account: each for its own, the server's account for all. */
export class AuditOperations {
  readonly #trail: Trail;
  readonly #serverAccountId: string;

  constructor(trail: Trail, serverAccountId: string) {
    this.#trail = trail;
    this.#serverAccountId = serverAccountId;
  }

  /** @throws TorporError `denied` for another account's */
  list(context: RequestContext, filter: AuditFilter, follow: boolean, signal: AbortSignal): AsyncIterable<AuditEvent> {
    const accountId = filter.accountId ?? context.accountId;
    if (!looksAfter(context, accountId, this.#serverAccountId))
      throw notAllowed("torpor:ListAuditEvents", principalArn(accountId, ROOT), context);
    const of = accountId === ALL_ACCOUNTS ? undefined : accountId;
    return readTrail(this.#trail, { ...filter, accountId: of }, follow, signal);
  }
}
