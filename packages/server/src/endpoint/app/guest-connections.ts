import type { ClientHttp2Session } from "node:http2";
import type { Duplex } from "node:stream";
import { abortable } from "../../lib/abortable.ts";
import type { Clock } from "../../lib/clock.ts";
import type { GuestVisit } from "../guest-visit.ts";
import type { EndpointLimits } from "../limits.ts";
import { onAbort } from "../on-abort.ts";
import { openHttp2 } from "./http2-app.ts";

type Where = Pick<GuestVisit, "microvmId" | "port" | "closing">;

/**
 * The connections to apps that one client connection has made and may use again, as if it led to the app itself: they
 * end with it, no other client ever gets one, and all of them end when their microvm leaves RUNNING.
 */
export class GuestConnections implements Disposable {
  readonly #limits: EndpointLimits;
  readonly #clock: Clock;
  readonly #idle = new Map<string, Idle[]>();
  readonly #sessions = new Map<string, Promise<ClientHttp2Session>>();
  readonly #ended = new AbortController();

  constructor(limits: EndpointLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** An idle connection in HTTP/1.1, the newest; it is the caller's from now on. */
  take(where: Where): Duplex | undefined {
    const idle = this.#idle.get(keyOf(where))?.at(-1);
    if (idle === undefined) return undefined;
    this.#forget(where, idle);
    idle.release();
    return idle.stream;
  }

  /** Ends an idle one: an app that serves one connection at a time would let a new one wait for it. */
  drop(where: Where): void {
    this.take(where)?.destroy();
  }

  /** Takes a connection whose last answer is over. */
  keep(where: Where, stream: Duplex): void {
    const key = keyOf(where);
    const all = this.#idle.get(key) ?? [];
    if (this.#ended.signal.aborted || where.closing.aborted || all.length >= this.#limits.maxKeptConnections) {
      stream.destroy();
      return;
    }
    const idle = new Idle(stream, where.closing, this.#clock, this.#limits.keptConnectionMs, () =>
      this.#forget(where, idle),
    );
    this.#idle.set(key, [...all, idle]);
  }

  /**
   * The connection in HTTP/2, which takes many requests at once. It is opened for all who come while it opens.
   * @throws Refused; the signal's reason
   */
  async http2(guest: GuestVisit, signal: AbortSignal): Promise<ClientHttp2Session> {
    const key = keyOf(guest);
    const there = this.#sessions.get(key);
    if (there !== undefined) return await abortable(there, signal);
    const opening = this.#openHttp2(guest);
    this.#sessions.set(key, opening);
    const forget = (): void => {
      if (this.#sessions.get(key) === opening) this.#sessions.delete(key);
    };
    opening.then((session) => {
      const leave = onAbort(guest.closing, () => session.destroy());
      const end = onAbort(this.#ended.signal, () => session.destroy());
      session.once("goaway", forget).once("close", () => {
        forget();
        leave[Symbol.dispose]();
        end[Symbol.dispose]();
      });
      if (session.closed || session.destroyed) forget();
    }, forget);
    return await abortable(opening, signal);
  }

  async #openHttp2(guest: GuestVisit): Promise<ClientHttp2Session> {
    const stream = await guest.connect(this.#ended.signal);
    return await openHttp2(stream, this.#limits, this.#clock, AbortSignal.any([this.#ended.signal, guest.closing]));
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
    for (const all of [...this.#idle.values()]) for (const idle of [...all]) idle.stream.destroy();
  }

  #forget(where: Where, idle: Idle): void {
    const key = keyOf(where);
    const left = (this.#idle.get(key) ?? []).filter((one) => one !== idle);
    if (left.length > 0) this.#idle.set(key, left);
    else this.#idle.delete(key);
  }
}

const keyOf = ({ microvmId, port }: Where): string => `${microvmId}:${port}`;

/** A connection that waits. Whatever comes on it, an end or bytes that nobody asked for, makes it useless. */
class Idle {
  readonly stream: Duplex;
  readonly #listening: Disposable;
  readonly #cancel: () => void;
  readonly #forget: () => void;
  readonly #end = (): void => {
    this.release();
    this.#forget();
    this.stream.destroy();
  };

  constructor(stream: Duplex, closing: AbortSignal, clock: Clock, ms: number, forget: () => void) {
    this.stream = stream;
    this.#forget = forget;
    this.#cancel = clock.after(ms, this.#end);
    stream.on("data", this.#end).on("end", this.#end).on("close", this.#end);
    this.#listening = onAbort(closing, this.#end);
    stream.resume();
  }

  release(): void {
    this.#cancel();
    this.stream.off("data", this.#end).off("end", this.#end).off("close", this.#end);
    this.#listening[Symbol.dispose]();
  }
}
