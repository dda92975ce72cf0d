/**
 * The other side of the endpoint: an app on a port, and a stand-in for a guest's agent that knows FORWARD and nothing
 * else, behind which the same app answers. It costs as little as it can, since the load is made on the same core.
 * Arguments: address and port of the agent. Prints the app's port.
 */
import { type AddressInfo, createServer, type Socket } from "node:net";
import { ANSWER, encodeFrame, FrameDecoder, REQUEST } from "../../packages/server/src/host/agent/frames.ts";

const [agentAddress = "", agentPort = ""] = process.argv.slice(2);
const BODY = Buffer.alloc(1024, "x");
const ANSWER_BYTES = Buffer.concat([
  Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${BODY.length}\r\n\r\n`),
  BODY,
]);
const SWITCHED = Buffer.from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
const PIECE = Buffer.alloc(256 * 1024, "x");

/** Answers each request that has no body. */
function answer(socket: Socket): (chunk: Buffer) => void {
  let head = "";
  let switched = false;
  return (chunk) => {
    if (switched) return;
    head += chunk.toString("latin1");
    for (let end = head.indexOf("\r\n\r\n"); end >= 0 && !switched; end = head.indexOf("\r\n\r\n")) {
      const bytes = /^GET \/stream\/(\d+) /.exec(head)?.[1];
      if (bytes !== undefined) stream(socket, Number(bytes));
      else if (/^upgrade: websocket\r$/im.test(head.slice(0, end + 1))) {
        switched = true;
        socket.write(SWITCHED);
      } else socket.write(ANSWER_BYTES);
      head = head.slice(end + 4);
    }
  };
}

function stream(socket: Socket, bytes: number): void {
  socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`);
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE;
      left -= piece.length;
      if (!socket.write(piece)) return;
    }
    socket.off("drain", more);
  };
  socket.on("drain", more);
  more();
}

const quiet = (socket: Socket): Socket => socket.setNoDelay(true).on("error", () => socket.destroy());

const agent = createServer((socket) => {
  quiet(socket);
  const decoder = new FrameDecoder();
  const onFrame = (chunk: Buffer): void => {
    decoder.add(chunk);
    const frame = decoder.next();
    if (frame === undefined) return;
    if (frame.type !== REQUEST.forward) throw new Error(`the agent's stand-in knows no frame of type ${frame.type}`);
    socket.write(encodeFrame(REQUEST.forward | ANSWER, Uint8Array.of(0)));
    const app = answer(socket);
    socket.off("data", onFrame).on("data", app);
    app(decoder.rest());
  };
  socket.on("data", onFrame);
});
const app = createServer((socket) => quiet(socket).on("data", answer(socket)));
agent.listen({ host: agentAddress, port: Number(agentPort), backlog: 4096 }, () => {
  app.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log((app.address() as AddressInfo).port));
});
