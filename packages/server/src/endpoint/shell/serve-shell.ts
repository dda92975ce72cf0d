import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { ShellAdmission } from "../admission.ts";
import type { EndpointParts } from "../exchange.ts";
import { enterMicrovm } from "../guest-visit.ts";
import { APP_CONNECT_FAILED, Refused } from "../refusal.ts";
import type { RequestHead } from "../request-head.ts";
import { runSession } from "./session.ts";
import { acceptWebSocket, asksForWebSocket } from "./upgrade.ts";

/** A client's request to switch protocols. */
export interface UpgradeRequest {
  readonly req: IncomingMessage;
  readonly head: RequestHead;
  readonly socket: Duplex;
  /** The socket is the shell's from here on; what came on it too early. */
  take(): Buffer;
  /** Aborted when the client is gone. */
  readonly gone: AbortSignal;
}

/**
 * A shell for whoever was admitted to one: the microvm is woken, then the WebSocket accepted, then the shell opened as
 * its first message says. Resolves when all of it has ended.
 * @throws Refused before the WebSocket was accepted; the signal's reason when the client is gone
 */
export async function serveShell(request: UpgradeRequest, to: ShellAdmission, parts: EndpointParts): Promise<void> {
  const { req, head, socket, gone } = request;
  if (!asksForWebSocket(head.method, head.lines)) throw new Refused(APP_CONNECT_FAILED, "a shell needs a WebSocket");
  using entered = await enterMicrovm(to.microvmId, parts.door, gone);
  const { limits, clock, log } = parts;
  const webSocket = acceptWebSocket(req, socket, request.take());
  await runSession(webSocket, { visit: entered.visit, limits, clock, log });
}
