import { randomUUID } from "node:crypto";
import type { Readable } from "node:stream";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type AdmissionRules, admit } from "./admission.ts";
import type { AppSide } from "./app/app-side.ts";
import { reachApp } from "./app/reach.ts";
import type { ClientSide } from "./client/client-side.ts";
import type { Connection } from "./connection.ts";
import { enterGuest, type GuestDoor, type GuestVisit } from "./guest-visit.ts";
import type { EndpointLimits } from "./limits.ts";
import { onAbort } from "./on-abort.ts";
import { CutError, pump } from "./pump.ts";
import { APP_CONNECT_FAILED, MICROVM_CONNECT_FAILED, OUR_FAULT, type Refusal, Refused } from "./refusal.ts";
import { trailersToRelay } from "./relayed-headers.ts";
import type { RequestHead } from "./request-head.ts";
import type { Silence } from "./silence.ts";
import { headFor, placeOfVisitor, type VisitorRules, visitorOf } from "./visitor.ts";

/** What every request needs. */
export interface EndpointParts {
  readonly rules: AdmissionRules;
  readonly door: GuestDoor;
  readonly visitors: VisitorRules;
  readonly silence: Silence;
  readonly limits: EndpointLimits;
  readonly clock: Clock;
  readonly log: Log;
}

/** Never seen: an upload that is cut is silent. */
const OVER = new DOMException("the exchange is over", "AbortError");

/** One request and its answer, whatever protocols client and app speak. Never throws. */
export async function exchange(client: ClientSide, connection: Connection, parts: EndpointParts): Promise<void> {
  const requestId = randomUUID();
  let visitor = connection.peer;
  try {
    const head = client.readHead(parts.limits);
    visitor = visitorOf(head, connection, parts.visitors);
    using _ = placeOfVisitor(visitor, connection, parts.visitors);
    const admission = await admit(head, connection.serverName, false, parts.rules);
    using guest = await enterGuest(admission, parts.door, client.gone);
    await relay(client, headFor(visitor, head, parts.visitors), guest, connection, requestId, parts);
    client.linger();
  } catch (err) {
    if (client.gone.aborted) client.cut();
    else client.refuse(refusalFor(err, { requestId, client: visitor }, parts.log));
    await client.answered();
  }
}

async function relay(
  client: ClientSide,
  head: RequestHead,
  guest: GuestVisit,
  connection: Connection,
  requestId: string,
  parts: EndpointParts,
): Promise<void> {
  using cut = new Cut(guest, client);
  using sound = parts.silence.listen(() => cut.all());
  const touch = (): void => {
    guest.touch();
    sound.heard();
  };
  touch();
  const { limits } = parts;
  let uploading: AbortController | undefined;
  try {
    using app = await reachApp(head, {
      guest,
      kept: connection.guests(parts),
      limits,
      requestId,
      signal: client.gone,
      onInterim: (status, lines) => client.interim(status, lines),
      onTry: (tried) => cut.set(tried),
    });
    // Runs beside the answer: apps may answer before they have read everything, or while they read.
    if (head.body !== "none") {
      uploading = new AbortController();
      void upload(client, app, head, touch, uploading.signal);
    }
    const answer = await app.answer;
    touch();
    if (answer.kind === "switched") throw new Refused(APP_CONNECT_FAILED, "the app switched protocols unasked");
    const to = client.begin(answer);
    if (answer.bodiless) await drained(answer.body);
    else await pump(answer.body, to, touch);
    if (!answer.bodiless && !answer.whole()) throw new CutError("the app broke off its answer");
    client.end(answer.mayTrail ? trailersToRelay(answer.trailers()) : []);
    await client.answered();
  } catch (err) {
    throw client.begun ? err : failureOf(guest, err);
  } finally {
    uploading?.abort(OVER);
  }
}

/** Resolves when the body, which has nothing in it, is over: before that the connection is fit for no other request. */
function drained(body: Readable): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (body.readableEnded || body.destroyed) resolve();
  else body.once("end", resolve).once("close", resolve).resume();
  return promise;
}

/** Never throws: when the app does not take the body, its answer says so or fails; when the client breaks off, all ends. */
async function upload(
  client: ClientSide,
  app: AppSide,
  head: RequestHead,
  touch: () => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    await pump(client.body, app.body, touch, signal);
    if (!client.whole) return; // the client has gone, which cuts the way to the app
    app.endBody(head.body === "chunked" ? trailersToRelay(client.trailers()) : []);
  } catch {
    // see above
  }
}

/**
 * A client that goes cuts the way to the app; a microvm that leaves RUNNING cuts both, but for a client who has had
 * nothing of an answer yet and can still be told.
 */
export class Cut implements Disposable {
  readonly #client: ClientSide;
  readonly #stack = new DisposableStack();
  #app: Pick<AppSide, "abort"> | undefined;

  constructor(guest: Pick<GuestVisit, "closing">, client: ClientSide) {
    this.#client = client;
    this.#stack.use(onAbort(client.gone, () => this.#app?.abort()));
    this.#stack.use(onAbort(guest.closing, () => this.all()));
  }

  set(app: AppSide): void {
    this.#app = app;
  }

  all(): void {
    if (this.#client.begun) this.#client.cut();
    this.#app?.abort();
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Why an app did not answer: it may have been taken from it. */
export function failureOf(guest: Pick<GuestVisit, "closing">, err: unknown): unknown {
  if (!guest.closing.aborted) return err;
  return new Refused(MICROVM_CONNECT_FAILED, "the microvm left RUNNING", { cause: err });
}

/** The one place that turns failures into answers. */
export function refusalFor(err: unknown, of: { requestId: string; client: string }, log: Log): Refusal {
  if (!(err instanceof Refused)) {
    log.error({ err, ...of }, "endpoint request failed");
    return OUR_FAULT;
  }
  const cause = err.cause === undefined ? undefined : messageOf(err.cause);
  log.debug({ ...of, status: err.refusal.status, reason: err.message, cause }, "endpoint request refused");
  return err.refusal;
}
