import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { AgentConnection, AgentError } from "./connection.ts";
import { ANSWER, encodeFrame, FAILURE, FrameDecoder, MAX_FRAME, REQUEST } from "./frames.ts";

const never = new AbortController().signal;
const undo: (() => void)[] = [];
afterEach(() => {
  for (const f of undo.splice(0)) f();
});

/** A guest's agent as this test wants it: real sockets on loopback. */
async function agent(answer: (socket: Socket, type: number, payload: Buffer) => void): Promise<AgentConnection> {
  const server = createServer((socket) => {
    const decoder = new FrameDecoder();
    const receive = (chunk: Buffer): void => {
      decoder.add(chunk);
      for (let f = decoder.next(); f; f = decoder.next()) answer(socket, f.type, f.payload);
    };
    socket.on("data", receive).on("error", () => {});
    undo.push(() => socket.destroy());
  }).listen(0, "127.0.0.1");
  undo.push(() => server.close());
  await once(server, "listening");
  const { connect } = await import("node:net");
  const { port } = server.address() as { port: number };
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  const connection = new AgentConnection(socket);
  undo.push(() => connection[Symbol.dispose]());
  return connection;
}

test("requests are answered one after another", async () => {
  const connection = await agent((s, type, payload) => s.write(encodeFrame(type | ANSWER, payload)));
  for (const text of ["one", "two", "three"])
    expect((await connection.request(REQUEST.hello, Buffer.from(text), never)).toString()).toBe(text);
});

test("a failure of the agent arrives with its code", async () => {
  const said = Buffer.from(JSON.stringify({ code: "exec_failed", error: "no such file" }));
  const connection = await agent((s) => s.write(encodeFrame(FAILURE, said)));
  const failed = connection.request(REQUEST.start, {}, never);
  await expect(failed).rejects.toBeInstanceOf(AgentError);
  await expect(failed).rejects.toMatchObject({ code: "exec_failed", message: "no such file" });
});

test("an agent that breaks the protocol or goes away is an error, never a wait", async () => {
  const lies = await agent((s, type) => s.write(encodeFrame((type + 1) | ANSWER)));
  await expect(lies.request(REQUEST.hello, undefined, never)).rejects.toThrow(/frame type/);
  const floods = await agent((s) => {
    const header = Buffer.alloc(5);
    header.writeUInt32BE(MAX_FRAME + 1);
    s.write(header);
  });
  await expect(floods.request(REQUEST.hello, undefined, never)).rejects.toThrow(/agent frame of/);
  const leaves = await agent((s) => s.destroy());
  await expect(leaves.request(REQUEST.hello, undefined, never)).rejects.toThrow();
  const silent = await agent(() => {});
  await expect(silent.request(REQUEST.hello, undefined, AbortSignal.timeout(50))).rejects.toThrow(/timeout/i);
});

test("a released connection flows for its next owner, beginning with what came behind the last frame", async () => {
  const connection = await agent((s, type) => {
    s.write(Buffer.concat([encodeFrame(type | ANSWER, Buffer.from([0])), Buffer.from("hello ")]));
    s.end("world");
  });
  await connection.request(REQUEST.forward, Buffer.from([0x1f, 0x90]), never);
  const socket = connection.release();
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(socket, "end");
  expect(text).toBe("hello world");
});
