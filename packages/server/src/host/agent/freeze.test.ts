import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { Agent } from "./agent.ts";
import { AGENT_PORT } from "./connection.ts";
import { ANSWER, encodeFrame, FAILURE, REQUEST } from "./frames.ts";
import { freezeWorkload } from "./freeze.ts";

/** Ours alone on this machine: the agent's port is fixed. */
const ADDRESS = "127.46.99.9";
const never = new AbortController().signal;
const log = createLog("silent");
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const f of undo.splice(0)) await f();
});

/** A guest's agent that answers each request with the same frame. @returns its connections */
async function agent(frame: Buffer): Promise<Socket[]> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("data", () => socket.write(frame)).on("error", () => {});
    undo.push(() => socket.destroy());
  }).listen(AGENT_PORT, ADDRESS);
  undo.push(() => new Promise((resolve) => server.close(resolve)));
  await once(server, "listening");
  return sockets;
}

const frozen = encodeFrame(REQUEST.freeze | ANSWER);
const failure = (code: string): Buffer => encodeFrame(FAILURE, Buffer.from(JSON.stringify({ code, error: "no" })));
const runsOn = { ended: new Promise<string>(() => {}) };
const freeze = (vmm: { readonly ended: Promise<string> }): Promise<Disposable> =>
  freezeWorkload(new Agent(ADDRESS), vmm, log, never);

test("a frozen workload is thawed by the end of its connection", async () => {
  const sockets = await agent(frozen);
  const held = await freeze(runsOn);
  expect(sockets).toHaveLength(1);
  expect(sockets[0]!.readableEnded).toBe(false);
  held[Symbol.dispose]();
  await once(sockets[0]!, "end");
});

test("nothing is kept of a VMM that has ended, nor of a guest that has an identity", async () => {
  const sockets = await agent(frozen);
  const { promise: ended, resolve: end } = Promise.withResolvers<string>();
  await freeze({ ended });
  end("killed");
  await once(sockets[0]!, "close");
  await freeze(runsOn);
  sockets[1]!.end(); // as the agent does
  await once(sockets[1]!, "close");
});

test("a guest that cannot freeze, does not, or is hostile does not keep its snapshot from being taken", async () => {
  for (const answer of [failure("unknown_request"), failure("failed"), encodeFrame(0x7f), Buffer.alloc(4)]) {
    const sockets = await agent(answer);
    using _ = await freeze(runsOn);
    await once(sockets[0]!, "close");
    for (const f of undo.splice(0)) await f();
  }
});
