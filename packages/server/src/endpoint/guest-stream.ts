import type { Duplex } from "node:stream";
import { type EndpointGate, GateError, type Visit } from "../control/endpoint-gate.ts";
import { ConnectError } from "../host/host-client.ts";
import type { Clock } from "../lib/clock.ts";
import type { Admission } from "./admission.ts";
import type { EndpointLimits } from "./limits.ts";
import { onAbort } from "./on-abort.ts";
import type { Places } from "./places.ts";
import { APP_CONNECT_FAILED, MICROVM_CONNECT_FAILED, Refused, TOO_MANY_CONNECTIONS } from "./refusal.ts";

/** A connection to the app, with the visit and the place that it stands on. Disposing of it ends all three. */
export interface GuestStream extends Disposable {
  readonly stream: Duplex;
  readonly visit: Pick<Visit, "touch" | "closing">;
}

export interface GuestDoor {
  readonly gate: Pick<EndpointGate, "enter">;
  readonly places: Places;
  readonly clock: Clock;
  readonly limits: Pick<EndpointLimits, "enterTimeoutMs" | "connectTimeoutMs">;
}

/**
 * Waits for the microvm as long as the limits allow, waking it if need be, and connects to the port.
 * @throws Refused; the signal's reason when the client is gone
 */
export async function openGuestStream(to: Admission, door: GuestDoor, signal: AbortSignal): Promise<GuestStream> {
  using undo = new DisposableStack();
  const place = door.places.take(to.microvmId);
  if (place === undefined) throw new Refused(TOO_MANY_CONNECTIONS, "the microvm has no connections left");
  undo.use(place);

  const visit = await enter(to, door, signal);
  undo.defer(() => visit.leave());
  const stream = await connect(to, visit, door, signal);
  undo.defer(() => stream.destroy());
  stream.on("error", () => {}); // whoever reads or writes it hears of it; between two of them nobody does
  signal.throwIfAborted();
  if (visit.closing.aborted) throw new Refused(MICROVM_CONNECT_FAILED, "the microvm left RUNNING");

  const owned = undo.move();
  return { stream, visit, [Symbol.dispose]: () => owned.dispose() };
}

async function enter(to: Admission, door: GuestDoor, signal: AbortSignal): Promise<Visit> {
  using deadline = new Deadline(door.clock, door.limits.enterTimeoutMs, signal);
  try {
    return await door.gate.enter(to.microvmId, deadline.signal);
  } catch (err) {
    signal.throwIfAborted();
    if (deadline.passed) throw new Refused(MICROVM_CONNECT_FAILED, "the microvm took too long", { cause: err });
    if (err instanceof GateError) throw new Refused(MICROVM_CONNECT_FAILED, `gate: ${err.reason}`, { cause: err });
    throw err;
  }
}

async function connect(to: Admission, visit: Visit, door: GuestDoor, signal: AbortSignal): Promise<Duplex> {
  using deadline = new Deadline(door.clock, door.limits.connectTimeoutMs, signal);
  using _ = onAbort(visit.closing, () => deadline.abort());
  try {
    return await visit.connect(to.port, deadline.signal);
  } catch (err) {
    signal.throwIfAborted();
    if (deadline.passed || visit.closing.aborted)
      throw new Refused(MICROVM_CONNECT_FAILED, "no connection to the guest", { cause: err });
    if (!(err instanceof ConnectError)) throw err;
    const refusal = err.reason === "refused" ? APP_CONNECT_FAILED : MICROVM_CONNECT_FAILED;
    throw new Refused(refusal, `guest: ${err.reason}`, { cause: err });
  }
}

/** Aborts with the outer signal, or after a time. */
class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #stack = new DisposableStack();
  passed = false;

  constructor(clock: Clock, ms: number, outer: AbortSignal) {
    this.#stack.use(onAbort(outer, (reason) => this.#controller.abort(reason)));
    const cancel = clock.after(ms, () => {
      this.passed = true;
      this.#controller.abort(new DOMException("the endpoint's deadline passed", "TimeoutError"));
    });
    this.#stack.defer(cancel);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(): void {
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
