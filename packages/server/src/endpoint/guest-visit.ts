import type { Duplex } from "node:stream";
import { type EndpointGate, GateError, type Visit } from "../control/endpoint-gate.ts";
import { ConnectError } from "../host/host-client.ts";
import type { Clock } from "../lib/clock.ts";
import type { Admission } from "./admission.ts";
import { Deadline } from "./deadline.ts";
import type { EndpointLimits } from "./limits.ts";
import { onAbort } from "./on-abort.ts";
import type { Places } from "./places.ts";
import { APP_CONNECT_FAILED, MICROVM_CONNECT_FAILED, Refused, TOO_MANY_CONNECTIONS } from "./refusal.ts";

/** A microvm that takes traffic, with the place that the request has in it. Disposing of it leaves both. */
export interface GuestVisit extends Disposable {
  readonly microvmId: string;
  readonly port: number;
  touch(): void;
  /** Aborted when the microvm leaves RUNNING. */
  readonly closing: AbortSignal;
  /**
   * A new connection to the port; it is the caller's, and outlives the visit.
   * @throws Refused; the signal's reason when it has aborted
   */
  connect(signal: AbortSignal): Promise<Duplex>;
}

export interface GuestDoor {
  readonly gate: Pick<EndpointGate, "enter">;
  readonly places: Places;
  readonly clock: Clock;
  readonly limits: Pick<EndpointLimits, "enterTimeoutMs" | "connectTimeoutMs">;
}

/** @throws Refused; the signal's reason when the client is gone */
export async function enterGuest(to: Admission, door: GuestDoor, signal: AbortSignal): Promise<GuestVisit> {
  const entered = await enterMicrovm(to.microvmId, door, signal);
  const { visit } = entered;
  return {
    microvmId: to.microvmId,
    port: to.port,
    touch: () => visit.touch(),
    closing: visit.closing,
    connect: (connecting) => connect(to, visit, door, connecting),
    [Symbol.dispose]: () => entered[Symbol.dispose](),
  };
}

/** A visit, with the place that it takes. Disposing of it leaves both. */
export interface Entered extends Disposable {
  readonly visit: Visit;
}

/**
 * Waits for the microvm as long as the limits allow, waking it if need be.
 * @throws Refused; the signal's reason when the client is gone
 */
export async function enterMicrovm(microvmId: string, door: GuestDoor, signal: AbortSignal): Promise<Entered> {
  using undo = new DisposableStack();
  const place = door.places.take(microvmId);
  if (place === undefined) throw new Refused(TOO_MANY_CONNECTIONS, "the microvm has no connections left");
  undo.use(place);
  const visit = await enter(microvmId, door, signal);
  undo.defer(() => visit.leave());
  const owned = undo.move();
  return { visit, [Symbol.dispose]: () => owned.dispose() };
}

async function enter(microvmId: string, door: GuestDoor, signal: AbortSignal): Promise<Visit> {
  using deadline = new Deadline(door.clock, door.limits.enterTimeoutMs, signal);
  try {
    return await door.gate.enter(microvmId, deadline.signal);
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
  let stream: Duplex;
  try {
    stream = await visit.connect(to.port, deadline.signal);
  } catch (err) {
    signal.throwIfAborted();
    if (deadline.passed || visit.closing.aborted)
      throw new Refused(MICROVM_CONNECT_FAILED, "no connection to the guest", { cause: err });
    if (!(err instanceof ConnectError)) throw err;
    const refusal = err.reason === "refused" ? APP_CONNECT_FAILED : MICROVM_CONNECT_FAILED;
    throw new Refused(refusal, `guest: ${err.reason}`, { cause: err });
  }
  stream.on("error", () => {}); // whoever reads or writes it hears of it; between two of them nobody does
  if (!signal.aborted && !visit.closing.aborted) return stream;
  stream.destroy();
  signal.throwIfAborted();
  throw new Refused(MICROVM_CONNECT_FAILED, "the microvm left RUNNING");
}
