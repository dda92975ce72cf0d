import type { EndpointGate } from "../control/endpoint-gate.ts";
import type { TokenService } from "../control/token/token.ts";
import { credentialsOf, parsePort } from "./credentials.ts";
import {
  APP_CONNECT_FAILED,
  AUTHENTICATION_FAILED,
  MISDIRECTED,
  MISSING_AUTHENTICATION,
  NO_SHELL,
  PORT_DENIED,
  Refused,
} from "./refusal.ts";
import { labelOf, type RequestHead } from "./request-head.ts";

/** Where a request may go. Having one is all that lets a request touch a microvm. */
export interface Admission {
  readonly microvmId: string;
  readonly port: number;
}

export interface AdmissionRules {
  readonly domain: string;
  readonly tokens: TokenService;
  readonly gate: Pick<EndpointGate, "find">;
}

/**
 * Token present, token valid, for this microvm, for this port: in this order, which clients can observe. The microvm
 * itself is not asked, so nobody without a token for it can wake it.
 * @throws Refused
 */
export async function admit(
  head: RequestHead,
  serverName: string | undefined,
  upgrade: boolean,
  rules: AdmissionRules,
): Promise<Admission> {
  const label = labelOf(head.host, rules.domain);
  const handshakeLabel = serverName === undefined ? undefined : labelOf(serverName.toLowerCase(), rules.domain);
  if (handshakeLabel !== undefined && handshakeLabel !== label)
    throw new Refused(MISDIRECTED, "the Host is not the name of the TLS handshake");

  const { token, port: portText } = credentialsOf(head.lines, upgrade);
  if (token === undefined) throw new Refused(MISSING_AUTHENTICATION, "no token");
  const claims = await rules.tokens.verify(token);
  if (claims === "garbled") throw new Refused(MISSING_AUTHENTICATION, "what should be the token is none");
  if (claims === "invalid") throw new Refused(AUTHENTICATION_FAILED, "the token is not valid");
  // Looked up by the token and never by the name: a name that there is not takes as long as somebody else's.
  const { microvmId } = claims;
  const door = await rules.gate.find(microvmId);
  if (door === undefined) throw new Refused(AUTHENTICATION_FAILED, "the token's microvm is no longer known");
  if (door.label !== label) throw new Refused(AUTHENTICATION_FAILED, "the token is for another microvm than the name");
  if (!door[claims.kind]) throw new Refused(AUTHENTICATION_FAILED, `the microvm has no ingress for ${claims.kind}`);

  // The service answers a shell token on a request that is no WebSocket's with an empty 502.
  if (claims.kind === "shell")
    throw new Refused(upgrade ? NO_SHELL : APP_CONNECT_FAILED, "a shell token opens no port, and there are no shells");
  const port = parsePort(portText);
  if (!claims.ports.some(({ from, to }) => from <= port && port <= to))
    throw new Refused(PORT_DENIED, `the token does not open port ${port}`);
  return { microvmId, port };
}
