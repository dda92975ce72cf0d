import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { type Answer, decode, encode, type Packet, streamEncode } from "dns-packet";
import { answerCalls } from "./remote.ts";

/** All of the world that is not the host: its addresses answer on these ports, and the first is a name server. */
const [nameServer = "", ...addresses] = process.argv.slice(2);
const TCP_PORTS = [25, 80, 443, 4753, 8080];
const UDP_PORTS = [123, 443, 9999];

/** What a name server says of a name: its records, and whether an answer by UDP is too short for them. */
export interface Zone {
  readonly [name: string]: { readonly answers: readonly Answer[]; readonly truncated?: boolean };
}
let zone: Zone = {};
const asked: string[] = [];

function reply(bytes: Buffer, transport: "udp" | "tcp"): Packet {
  const query = decode(bytes);
  const question = query.questions![0]!;
  asked.push(`${question.type} ${question.name}${transport === "tcp" ? " tcp" : ""}`);
  const found = zone[question.name.toLowerCase()];
  const truncated = found?.truncated === true && transport === "udp";
  return {
    type: "response",
    id: query.id!,
    flags: (found ? 0 : 3) | 0x80 | (truncated ? 0x200 : 0),
    questions: [question],
    answers: truncated ? [] : [...(found?.answers ?? [])],
  };
}

const calls = {
  async listen(): Promise<void> {
    for (const port of TCP_PORTS) {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.write(`${socket.remoteAddress}\n`);
        socket.pipe(socket);
      });
      await once(server.listen(port, "0.0.0.0"), "listening");
    }
    for (const address of addresses)
      for (const port of UDP_PORTS) {
        const socket = createSocket("udp4");
        socket.on("error", () => {});
        socket.on("message", (bytes, from) => socket.send(bytes, from.port, from.address, () => {}));
        await once(socket.bind(port, address), "listening");
      }
    const udp = createSocket("udp4");
    udp.on("message", (bytes, from) => udp.send(encode(reply(bytes, "udp")), from.port, from.address));
    await once(udp.bind(53, nameServer), "listening");
    const tcp = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes) => socket.write(streamEncode(reply(bytes.subarray(2), "tcp"))));
    });
    await once(tcp.listen(53, nameServer), "listening");
  },
  async serveZone(next: Zone): Promise<void> {
    zone = next;
  },
  /** Questions since the last call, as `A example.com`. */
  async asked(): Promise<string[]> {
    return asked.splice(0);
  },
};
export type OutsideCalls = typeof calls;
answerCalls(calls);
