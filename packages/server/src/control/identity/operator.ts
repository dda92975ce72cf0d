import type { RequestContext } from "../request-context.ts";

/** Keys of the server's own account look after the others. */
export function isOperator(context: Pick<RequestContext, "accountId">, serverAccountId: string): boolean {
  return context.accountId === serverAccountId;
}

/** Whose keys and trail a caller may look after, as far as the account decides. */
export function looksAfter(
  context: Pick<RequestContext, "accountId">,
  accountId: string,
  serverAccountId: string,
): boolean {
  return context.accountId === accountId || isOperator(context, serverAccountId);
}
