import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";

/** A client's TLS connection, over all of its requests. */
export class Connection {
  readonly socket: TLSSocket;
  readonly #gone = new AbortController();
  /** Requests whose answers are not done. */
  exchanges = 0;
  /** After a request that two readers could read in two ways, what follows it is nobody's. */
  doubtful = false;
  /** After an upgrade the end of the client's side is no longer the end of it all. */
  tunnelled = false;

  constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.once("close", () => this.#gone.abort());
    socket.once("end", () => {
      if (!this.tunnelled) this.#gone.abort();
    });
  }

  /** Aborted when the client is gone. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** The name that the client gave in its handshake. */
  get serverName(): string | undefined {
    return this.socket.servername || undefined;
  }
}

/** The connections by their sockets, as Node's HTTP server hands us sockets only. */
export class Connections {
  readonly #known = new WeakMap<Socket, Connection>();

  add(socket: TLSSocket): void {
    this.#known.set(socket, new Connection(socket));
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
