import type { Socket } from "node:net";

/**
 * Who is at the other end of each connection. Node makes a socket of its own for what is inside TLS, which has the
 * addresses of the one below it: by these it is found.
 */
export class Peers {
  readonly #known = new Map<string, string>();

  /** Until the connection closes. */
  add(socket: Socket, peer: string): void {
    const key = keyOf(socket);
    this.#known.set(key, peer);
    socket.once("close", () => this.#known.delete(key));
  }

  /** Empty for one that is closed. */
  of(socket: Socket): string {
    return this.#known.get(keyOf(socket)) ?? socket.remoteAddress ?? "";
  }
}

const keyOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
