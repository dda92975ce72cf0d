import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { type Answer, decode, encode, streamDecode, streamEncode } from "dns-packet";
import { answerCalls } from "./remote.ts";

/** What a guest's programs do. */
const SILENCE_MS = 700;
const NAME_SERVER = "169.254.0.1";
const open = new Map<string, Socket>();

export interface DnsAnswer {
  readonly rcode: string;
  readonly truncated: boolean;
  readonly answers: readonly Answer[];
  readonly additionals: readonly Answer[];
}

async function firstLine(socket: Socket): Promise<string | undefined> {
  const signal = AbortSignal.timeout(SILENCE_MS);
  try {
    const [chunk] = (await once(socket, "data", { signal })) as [Buffer];
    return chunk.toString().trim();
  } catch {
    return undefined;
  }
}

async function exchange(bytes: Uint8Array, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
  const signal = AbortSignal.timeout(3000);
  if (transport === "tcp") {
    const socket = connect({ host: NAME_SERVER, port: 53 });
    try {
      socket.write(bytes);
      const [chunk] = (await once(socket, "data", { signal })) as [Buffer];
      return chunk;
    } catch {
      return undefined;
    } finally {
      socket.destroy();
    }
  }
  const socket = createSocket("udp4");
  try {
    socket.connect(53, NAME_SERVER);
    await once(socket, "connect");
    socket.send(bytes);
    const [reply] = (await once(socket, "message", { signal })) as [Buffer];
    return reply;
  } catch {
    return undefined;
  } finally {
    socket.close();
  }
}

const calls = {
  /** On every address. */
  async listen(port: number): Promise<void> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(`${socket.remoteAddress}\n`);
      socket.pipe(socket);
    });
    await once(server.listen(port, "0.0.0.0"), "listening");
  },
  /** What a connection's other side says first: the address it sees; undefined when there is none. */
  async tcp(address: string, port: number): Promise<string | undefined> {
    const socket = connect({ host: address, port });
    try {
      return await firstLine(socket);
    } finally {
      socket.destroy();
    }
  },
  async udp(address: string, port: number, bytes = 4): Promise<boolean> {
    const socket = createSocket("udp4");
    try {
      socket.send(Buffer.alloc(bytes), port, address, () => {});
      await once(socket, "message", { signal: AbortSignal.timeout(SILENCE_MS) });
      return true;
    } catch {
      return false;
    } finally {
      socket.close();
    }
  },
  /** A connection that stays. */
  async keep(name: string, address: string, port: number): Promise<boolean> {
    const socket = connect({ host: address, port });
    socket.on("error", () => {});
    open.set(name, socket);
    return (await firstLine(socket)) !== undefined;
  },
  /** Whether what is said over it comes back. */
  async say(name: string): Promise<boolean> {
    const socket = open.get(name)!;
    socket.write("hello\n");
    return (await firstLine(socket)) === "hello";
  },
  async dns(
    name: string,
    { type = "A", transport = "udp", edns = true }: { type?: string; transport?: "udp" | "tcp"; edns?: boolean } = {},
  ): Promise<DnsAnswer | undefined> {
    const packet = {
      type: "query" as const,
      id: 7,
      flags: 0x100,
      questions: [{ name, type: type as "A" }],
      additionals: edns ? [{ type: "OPT", name: ".", udpPayloadSize: 1232, flags: 0, options: [] } as never] : [],
    };
    const reply = await exchange(transport === "tcp" ? streamEncode(packet) : encode(packet), transport);
    if (!reply) return undefined;
    const read = (transport === "tcp" ? streamDecode(reply) : decode(reply)) as never as DnsAnswer & {
      readonly flag_tc: boolean;
    };
    return { rcode: read.rcode, truncated: read.flag_tc, answers: read.answers, additionals: read.additionals };
  },
  /** Sends these datagrams to the name server one after the other, and waits for nothing. */
  async dnsBytes(datagrams: readonly Uint8Array[]): Promise<void> {
    const socket = createSocket("udp4");
    for (const bytes of datagrams)
      await new Promise<void>((resolve) => socket.send(bytes, 53, NAME_SERVER, () => resolve()));
    socket.close();
  },
  /** How many of so many connections, begun at once, come to be. */
  async flood(address: string, port: number, count: number): Promise<number> {
    const sockets = Array.from({ length: count }, () => connect({ host: address, port }));
    const opened = await Promise.all(
      sockets.map((socket) => {
        socket.on("error", () => {});
        return firstLine(socket);
      }),
    );
    for (const socket of sockets) socket.destroy();
    return opened.filter((line) => line !== undefined).length;
  },
  /** Has so many bytes sent to it and back; resolves when all have come. */
  async echo(address: string, port: number, bytes: number): Promise<void> {
    const socket = connect({ host: address, port });
    await once(socket, "data");
    const all = Promise.withResolvers<void>();
    let come = 0;
    socket.on("data", (chunk: Buffer) => {
      come += chunk.length;
      if (come >= bytes) all.resolve();
    });
    socket.on("error", all.reject);
    socket.write(Buffer.alloc(bytes));
    await all.promise;
    socket.destroy();
  },
};
export type InsideCalls = typeof calls;
answerCalls(calls);
