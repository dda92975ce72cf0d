import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { Agent } from "./agent.ts";
import { AGENT_PORT } from "./connection.ts";
import { ANSWER, encodeFrame, FrameDecoder, REQUEST } from "./frames.ts";

/** Ours alone on this machine: the agent's port is fixed. */
const ADDRESS = "127.46.99.10";
const never = new AbortController().signal;
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const f of undo.splice(0).reverse()) await f();
});

class Guest {
  readonly connections: Socket[] = [];
  /** Connection and type of each request. */
  readonly asked: [number, number][] = [];
  #arrived = Promise.withResolvers<void>();

  static async start(): Promise<Guest> {
    const guest = new Guest();
    const server = createServer((socket) => guest.#serve(socket)).listen(AGENT_PORT, ADDRESS);
    undo.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, "listening");
    return guest;
  }

  /** Resolves when there are so many. */
  async has(connections: number): Promise<void> {
    while (this.connections.length < connections) await this.#arrived.promise;
  }

  #serve(socket: Socket): void {
    const number = this.connections.push(socket);
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers();
    undo.push(() => socket.destroy());
    const decoder = new FrameDecoder();
    let taken = false;
    const receive = (chunk: Buffer): void => {
      if (taken) return;
      decoder.add(chunk);
      for (let frame = decoder.next(); frame && !taken; frame = decoder.next()) {
        this.asked.push([number, frame.type]);
        taken = frame.type === REQUEST.forward;
        socket.write(encodeFrame(frame.type | ANSWER, taken ? Buffer.from([0]) : undefined));
      }
    };
    socket.on("data", receive).on("error", () => {});
  }
}

const identity = { unixMs: 0, entropy: new Uint8Array(32), machineId: new Uint8Array(16), microvmId: "microvm-1" };

function agent(ended?: Promise<unknown>): Agent {
  const agent = new Agent(ADDRESS, ended);
  undo.push(() => agent.close());
  return agent;
}

async function forward(agent: Agent): Promise<Duplex> {
  const stream = await agent.forward(8080, never);
  undo.push(() => stream.destroy());
  return stream;
}

test("what freezes a workload also takes its identity, and the first request", async () => {
  const guest = await Guest.start();
  const a = agent();
  const frozen = await a.freeze(never);
  await a.assumeIdentity(identity, never);
  frozen[Symbol.dispose](); // thaws nothing any more
  await forward(a);
  expect(guest.asked).toEqual([
    [1, REQUEST.freeze],
    [1, REQUEST.identity],
    [1, REQUEST.forward],
  ]);
});

test("a request does not use the connection whose end would thaw the workload", async () => {
  const guest = await Guest.start();
  const a = agent();
  using _ = await a.freeze(never);
  await forward(a);
  expect(guest.asked).toEqual([
    [1, REQUEST.freeze],
    [2, REQUEST.forward],
  ]);
});

test("when a request is over, a connection is made for the next one", async () => {
  const guest = await Guest.start();
  const a = agent();
  const stream = await forward(a);
  stream.destroy();
  await guest.has(2);
  await turn();
  await forward(a);
  expect(guest.asked).toEqual([
    [1, REQUEST.forward],
    [2, REQUEST.forward],
  ]);
});

test("a kept connection that the guest has ended, broken, or spoken over is made anew", async () => {
  const guest = await Guest.start();
  const a = agent();
  for (const spoil of [
    (s: Socket) => s.end(),
    (s: Socket) => s.resetAndDestroy(),
    (s: Socket) => s.write(encodeFrame(REQUEST.forward | ANSWER, Buffer.from([0]))),
  ]) {
    await a.assumeIdentity(identity, never);
    const kept = guest.connections.at(-1)!;
    spoil(kept);
    if (!kept.destroyed) await once(kept, "close");
    await forward(a);
    expect(guest.asked.at(-1)).toEqual([guest.connections.length, REQUEST.forward]);
    expect(guest.connections.at(-1)).not.toBe(kept);
  }
});

test("nothing is kept of a VMM that has ended", async () => {
  const guest = await Guest.start();
  const { promise: ended, resolve: end } = Promise.withResolvers<string>();
  const a = agent(ended);
  await a.assumeIdentity(identity, never);
  const closed = once(guest.connections[0]!, "close");
  end("killed");
  await closed;
  const stream = await forward(a);
  stream.destroy();
  await once(stream, "close");
  await turn();
  expect(guest.connections).toHaveLength(2);
});

test("a guest that does not answer is given up after as long as its caller says", { timeout: 5000 }, async () => {
  const nobody = new Agent("127.46.99.11");
  await expect(nobody.hello(never, 50)).rejects.toMatchObject({ name: "TimeoutError" });
});
