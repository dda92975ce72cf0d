import type { EndpointGate } from "../control/endpoint-gate.ts";
import type { TokenService } from "../control/token/token.ts";
import { credentialsOf, parsePort } from "./credentials.ts";
import {
  APP_CONNECT_FAILED,
  AUTHENTICATION_FAILED,
  MISDIRECTED,
  MISSING_AUTHENTICATION,
  PORT_DENIED,
  Refused,
} from "./refusal.ts";
import { labelOf, type RequestHead } from "./request-head.ts";

/** Where a request may go. Having one is all that lets a request touch a microvm. */
export interface Admission {
  readonly microvmId: string;
  readonly port: number;
}

/** To a shell of the microvm, which has no port. */
export interface ShellAdmission {
  readonly microvmId: string;
  readonly shell: true;
}

export interface AdmissionRules {
  readonly domain: string;
  readonly tokens: TokenService;
  readonly gate: Pick<EndpointGate, "find">;
}

/**
 * Token present, token valid, for this microvm, for this port: in this order, which clients can observe. The microvm
 * itself is not asked, so nobody without a token for it can wake it. The token's kind, and not the path, says whether it
 * is about a shell.
 * @throws Refused
 */
export function admit(
  head: RequestHead,
  serverName: string | undefined,
  upgrade: false,
  rules: AdmissionRules,
): Promise<Admission>;
export function admit(
  head: RequestHead,
  serverName: string | undefined,
  upgrade: true,
  rules: AdmissionRules,
): Promise<Admission | ShellAdmission>;
export async function admit(
  head: RequestHead,
  serverName: string | undefined,
  upgrade: boolean,
  rules: AdmissionRules,
): Promise<Admission | ShellAdmission> {
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

  if (claims.kind === "shell") {
    // As the service answers a request that is no WebSocket's.
    if (!upgrade) throw new Refused(APP_CONNECT_FAILED, "a shell token opens no port");
    return { microvmId, shell: true };
  }
  const port = parsePort(portText);
  if (!claims.ports.some(({ from, to }) => from <= port && port <= to))
    throw new Refused(PORT_DENIED, `the token does not open port ${port}`);
  return { microvmId, port };
}
