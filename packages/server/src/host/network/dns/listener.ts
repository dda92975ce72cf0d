import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { framed, MessageReader } from "./stream.ts";

/** @param maxBytes of the answer @returns undefined: silence */
export type Answerer = (bytes: Uint8Array, transport: "udp" | "tcp") => Promise<Uint8Array | undefined>;

export interface ListenerOptions {
  readonly address: string;
  readonly port: number;
  /** Nobody else is answered. */
  readonly peer: string;
}

const MAX_QUERY_BYTES = 4096;
const MAX_CONNECTIONS = 16;
const IDLE_MS = 10_000;

/** One guest's name server as far as sockets go: UDP, and TCP within bounds. */
export class Listener implements AsyncDisposable {
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #connections = new Set<Socket>();

  private constructor(udp: UdpSocket, tcp: Server) {
    this.#udp = udp;
    this.#tcp = tcp;
  }

  /** @throws Error when the address is taken or not there */
  static async open({ address, port, peer }: ListenerOptions, answer: Answerer): Promise<Listener> {
    const udp = createSocket("udp4");
    const tcp = createServer();
    const listener = new Listener(udp, tcp);
    try {
      tcp.listen({ host: address, port });
      await once(tcp, "listening");
      udp.bind({ address, port });
      await once(udp, "listening");
    } catch (err) {
      await listener[Symbol.asyncDispose]();
      throw err;
    }
    udp.on("error", () => {}); // an answer that could not be sent: the guest asks again
    udp.on("message", (bytes, from) => {
      if (from.address !== peer || bytes.length > MAX_QUERY_BYTES) return;
      void answer(bytes, "udp").then((reply) => {
        if (reply && !listener.#closed) udp.send(reply, from.port, from.address, () => {});
      });
    });
    tcp.on("error", () => {});
    tcp.on("connection", (socket) => {
      if (socket.remoteAddress !== peer || listener.#connections.size >= MAX_CONNECTIONS) socket.destroy();
      else listener.#serve(socket, answer);
    });
    return listener;
  }

  #closed = false;

  /** One question after the other, in their order: a connection that asks more waits, and so does its sender. */
  #serve(socket: Socket, answer: Answerer): void {
    this.#connections.add(socket);
    const reader = new MessageReader(MAX_QUERY_BYTES);
    socket.on("close", () => this.#connections.delete(socket));
    socket.on("error", () => {});
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on("data", (chunk) => {
      const queries = reader.push(chunk);
      if (!queries) return void socket.destroy();
      socket.pause();
      void (async () => {
        for (const query of queries) {
          const reply = await answer(query, "tcp");
          if (!reply || socket.destroyed) return void socket.destroy();
          socket.write(framed(reply));
        }
        socket.resume();
      })();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const socket of this.#connections) socket.destroy();
    const closed = [
      new Promise<void>((resolve) => this.#tcp.close(() => resolve())),
      new Promise<void>((resolve) => {
        try {
          this.#udp.close(() => resolve());
        } catch {
          resolve(); // it never was open
        }
      }),
    ];
    await Promise.all(closed);
  }
}
