import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { encodeQuestion, parseAnswer, type UpstreamAnswer } from "./message.ts";
import { framed, MessageReader } from "./stream.ts";

export interface UpstreamAddress {
  readonly address: string;
  readonly port: number;
}

const ATTEMPTS = 2;
const ATTEMPT_MS = 2000;
const TCP_MS = 4000;
const MAX_ANSWER = 65_535;

/**
 * Asks a name server. Each question has a port and an id of its own, and is heard only by a socket that is connected to
 * the server: whoever wants to answer in its place has to guess both.
 * @throws Error when it did not answer
 */
export async function askUpstream(
  server: UpstreamAddress,
  name: string,
  type: string,
  signal: AbortSignal,
): Promise<UpstreamAnswer> {
  for (let attempt = 1; ; attempt++) {
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)]);
      const answer = await askByUdp(server, name, type, limited);
      return answer.truncated
        ? await askByTcp(server, name, type, AbortSignal.any([signal, AbortSignal.timeout(TCP_MS)]))
        : answer;
    } catch (err) {
      signal.throwIfAborted();
      if (attempt === ATTEMPTS) throw err;
    }
  }
}

const newId = (): number => randomInt(0x10000);

async function askByUdp(
  { address, port }: UpstreamAddress,
  name: string,
  type: string,
  signal: AbortSignal,
): Promise<UpstreamAnswer> {
  const id = newId();
  const { promise, resolve, reject } = Promise.withResolvers<UpstreamAnswer>();
  const socket = createSocket("udp4");
  const abort = (): void => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    socket.on("error", reject);
    socket.on("message", (bytes) => {
      const answer = parseAnswer(bytes, id, name, type);
      if (answer) resolve(answer);
    });
    socket.connect(port, address, (err?: Error) => {
      if (err) reject(err);
      else if (!signal.aborted) socket.send(encodeQuestion(id, name, type));
    });
    signal.throwIfAborted();
    return await promise;
  } finally {
    signal.removeEventListener("abort", abort);
    socket.close();
  }
}

async function askByTcp(
  { address, port }: UpstreamAddress,
  name: string,
  type: string,
  signal: AbortSignal,
): Promise<UpstreamAnswer> {
  const id = newId();
  const { promise, resolve, reject } = Promise.withResolvers<UpstreamAnswer>();
  const reader = new MessageReader(MAX_ANSWER);
  const socket = connect({ host: address, port, signal });
  try {
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("the name server closed the connection")));
    socket.on("data", (chunk) => {
      for (const bytes of reader.push(chunk) ?? []) {
        const answer = parseAnswer(bytes, id, name, type);
        if (answer) resolve(answer);
        else reject(new Error("the name server answered something else"));
      }
    });
    socket.write(framed(encodeQuestion(id, name, type)));
    return await promise;
  } finally {
    socket.destroy();
  }
}
