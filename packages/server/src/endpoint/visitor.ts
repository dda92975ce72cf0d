import type { Connection } from "./connection.ts";
import { clientOf, NO_PLACE, type Places } from "./places.ts";
import { clientAddress, type Proxies } from "./proxy/client-address.ts";
import { withForwarded } from "./proxy/forwarded-lines.ts";
import { Refused, TOO_MANY_CONNECTIONS } from "./refusal.ts";
import type { RequestHead } from "./request-head.ts";

/** What is made of who asks. */
export interface VisitorRules {
  readonly proxies: Proxies;
  /** What each address has open. */
  readonly addresses: Places;
  /** `aws`: workloads see what the client sent. `set`: they see who the client is, in X-Forwarded-*. */
  readonly forwarded: "aws" | "set";
}

/** Whose request it is. */
export const visitorOf = (
  head: Pick<RequestHead, "lines">,
  connection: Pick<Connection, "peer">,
  rules: VisitorRules,
) => clientAddress(connection.peer, head.lines, rules.proxies);

/**
 * Connections of a proxy are no client's, so what counts are the requests that it hands on.
 * @throws Refused when the client has too many under way
 */
export function placeOfVisitor(visitor: string, { peer }: Pick<Connection, "peer">, rules: VisitorRules): Disposable {
  if (!rules.proxies.trusted.has(peer)) return NO_PLACE;
  const place = rules.addresses.take(clientOf(visitor));
  if (place === undefined) throw new Refused(TOO_MANY_CONNECTIONS, `the client ${visitor} has too many requests open`);
  return place;
}

/** The head as workloads are to see it. */
export function headFor(visitor: string, head: RequestHead, { forwarded }: VisitorRules): RequestHead {
  return forwarded === "aws" ? head : { ...head, lines: withForwarded(head.lines, visitor, head.host) };
}
