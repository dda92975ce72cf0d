import { randomUUID } from "node:crypto";
import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type AdmissionRules, admit } from "./admission.ts";
import { askApp } from "./app-request.ts";
import { answered, beginAnswer, type Linger, lingerOver, refuse, relayInterim } from "./client-answer.ts";
import type { Connection } from "./connection.ts";
import { type GuestDoor, type GuestStream, openGuestStream } from "./guest-stream.ts";
import type { EndpointLimits } from "./limits.ts";
import { onAbort } from "./on-abort.ts";
import { pump } from "./pump.ts";
import { APP_CONNECT_FAILED, MICROVM_CONNECT_FAILED, OUR_FAULT, type Refusal, Refused } from "./refusal.ts";
import { linesForApp, trailersToRelay } from "./relayed-headers.ts";
import { type RequestHead, readHead } from "./request-head.ts";

/** What every request needs. */
export interface EndpointParts {
  readonly rules: AdmissionRules;
  readonly door: GuestDoor;
  readonly limits: EndpointLimits;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * One request and its answer. Each has a connection to the app of its own: a kept one would have to be watched over
 * suspend and resume, and could hand one client's leftovers to the next. Never throws.
 */
export async function exchange(
  req: IncomingMessage,
  res: ServerResponse,
  connection: Connection,
  parts: EndpointParts,
): Promise<void> {
  const requestId = randomUUID();
  const linger: Linger = { clock: parts.clock, ms: parts.limits.lingerMs };
  req.on("error", () => {}); // the connection's end is what counts, and that is watched
  res.on("error", () => {});
  if (connection.doubtful) return; // the connection ends with the refusal before this
  connection.exchanges++;
  try {
    const head = readHead(req, parts.limits);
    const admission = await admit(head, connection.serverName, false, parts.rules);
    using guest = await openGuestStream(admission, parts.door, connection.gone);
    using _ = cutTogether(guest, connection, () => res.headersSent);
    await relay(req, res, head, guest, requestId, parts);
    await answered(res, connection.gone);
    lingerOver(req, linger);
  } catch (err) {
    if (connection.gone.aborted) connection.socket.destroy();
    else {
      const refusal = refusalFor(err, requestId, parts.log);
      if (refusal.close) connection.doubtful = true;
      refuse(req, res, refusal, linger);
    }
    await answered(res, connection.gone);
  } finally {
    connection.exchanges--;
  }
}

async function relay(
  req: IncomingMessage,
  res: ServerResponse,
  head: RequestHead,
  guest: GuestStream,
  requestId: string,
  parts: EndpointParts,
): Promise<void> {
  const touch = (): void => guest.visit.touch();
  touch();
  const forApp = { method: head.method, target: head.target, lines: linesForApp(head, requestId, undefined) };
  const asked = askApp(guest.stream, forApp, parts.limits, (info) => relayInterim(req, res, info));
  const uploading = new AbortController();
  // Runs beside the answer: apps may answer before they have read everything, or while they read.
  void upload(req, asked.body, head, touch, uploading.signal);
  try {
    const answer = await asked.answer;
    touch();
    if (answer.kind === "switched") throw new Refused(APP_CONNECT_FAILED, "the app switched protocols unasked");
    beginAnswer(res, answer.message);
    await pump(answer.message, res, touch);
    if (res.chunkedEncoding) res.addTrailers(trailersToRelay(answer.message.rawTrailers));
    res.end();
  } catch (err) {
    if (res.headersSent || !guest.visit.closing.aborted) throw err;
    throw new Refused(MICROVM_CONNECT_FAILED, "the microvm left RUNNING", { cause: err });
  } finally {
    uploading.abort();
  }
}

/** Never throws: when the app does not take the body, its answer says so or fails; when the client breaks off, all ends. */
async function upload(
  req: IncomingMessage,
  body: ClientRequest,
  head: RequestHead,
  touch: () => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    if (head.body !== "none") await pump(req, body, touch, signal);
    if (head.body === "chunked") body.addTrailers(trailersToRelay(req.rawTrailers));
    body.end();
  } catch {
    // see above
  }
}

/**
 * A client that goes cuts the guest's stream; a microvm that leaves RUNNING cuts both, but for a client who has had
 * nothing of an answer yet and can still be told.
 */
export function cutTogether(guest: GuestStream, connection: Connection, begun: () => boolean): Disposable {
  const stack = new DisposableStack();
  stack.use(onAbort(connection.gone, () => guest.stream.destroy()));
  stack.use(
    onAbort(guest.visit.closing, () => {
      if (begun()) connection.socket.destroy();
      guest.stream.destroy();
    }),
  );
  return stack;
}

/** The one place that turns failures into answers. */
export function refusalFor(err: unknown, requestId: string, log: Log): Refusal {
  if (!(err instanceof Refused)) {
    log.error({ err, requestId }, "endpoint request failed");
    return OUR_FAULT;
  }
  const cause = err.cause === undefined ? undefined : messageOf(err.cause);
  log.debug({ requestId, status: err.refusal.status, reason: err.message, cause }, "endpoint request refused");
  return err.refusal;
}
