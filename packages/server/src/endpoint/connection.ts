import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { Clock } from "../lib/clock.ts";
import { GuestConnections } from "./app/guest-connections.ts";
import type { EndpointLimits } from "./limits.ts";

/** One for all: an error is expensive to make, and this one only ends things. */
export const GONE = new DOMException("the client is gone", "AbortError");

/** A client's connection, over all of its requests. */
export class Connection {
  readonly socket: Socket;
  /** Who is at its other end, a proxy's word for it included. */
  readonly peer: string;
  readonly #gone = new AbortController();
  #guests: GuestConnections | undefined;
  #turn: Promise<void> = Promise.resolve();
  /** Requests in HTTP/1.1 whose answers are not done. */
  exchanges = 0;
  /** After a request that two readers could read in two ways, what follows it is nobody's. */
  doubtful = false;
  /** After an upgrade the end of the client's side is no longer the end of it all. */
  tunnelled = false;

  constructor(socket: Socket, peer: string) {
    this.socket = socket;
    this.peer = peer;
    socket.once("close", () => this.#end());
    socket.once("end", () => {
      if (!this.tunnelled) this.#end();
    });
  }

  /** Aborted when the client is gone. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** The name that the client gave in its handshake, if there was one and it did. */
  get serverName(): string | undefined {
    return (this.socket instanceof TLSSocket && this.socket.servername) || undefined;
  }

  /** What it has open to apps. */
  guests({ limits, clock }: { readonly limits: EndpointLimits; readonly clock: Clock }): GuestConnections {
    this.#guests ??= new GuestConnections(limits, clock);
    if (this.#gone.signal.aborted) this.#guests[Symbol.dispose]();
    return this.#guests;
  }

  /** Requests that come in one go are served one by one: the app must not see a second before it has done the first. */
  inTurn(serve: () => Promise<void>): Promise<void> {
    const first = this.exchanges++ === 0;
    const unlessOver = async (): Promise<void> => {
      if (!this.doubtful && !this.#gone.signal.aborted) await serve();
    };
    // At once when nothing is under way: a fault that Node finds behind the head must not come before its refusal.
    const turn = (first ? unlessOver() : this.#turn.then(unlessOver)).finally(() => this.exchanges--);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #end(): void {
    this.#gone.abort(GONE);
    this.#guests?.[Symbol.dispose]();
  }
}

/** The connections by their sockets, as Node's HTTP server hands us sockets only. */
export class Connections {
  readonly #known = new WeakMap<Socket, Connection>();

  add(socket: Socket, peer: string): Connection {
    const connection = new Connection(socket, peer);
    this.#known.set(socket, connection);
    return connection;
  }

  has(socket: Socket): boolean {
    return this.#known.has(socket);
  }

  /** @throws Error for a socket that never finished its handshake: Node does not give us such */
  of(socket: Socket): Connection {
    const connection = this.#known.get(socket);
    if (connection === undefined) throw new Error("request on an unknown connection");
    return connection;
  }
}
