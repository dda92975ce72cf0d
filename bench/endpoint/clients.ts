import { once } from "node:events";
import type { OnReadOpts, Socket } from "node:net";
import { type ConnectionOptions, connect, createSecureContext } from "node:tls";

/** Where requests go, and what a client needs to trust it. */
export interface Target {
  readonly port: number;
  readonly servername: string;
  readonly ca: string;
}

/** Opens connections, each with a whole handshake: nothing is resumed. */
export function opener({ port, servername, ca }: Target): () => Socket {
  const secureContext = createSecureContext({ ca });
  return () => connect({ host: "127.0.0.1", port, servername, secureContext, ALPNProtocols: ["http/1.1"] });
}

/** Asks once, and counts what comes. @returns megabytes a second, from the first byte to the last */
export async function stream(target: Target, request: Buffer, bytes: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let got = 0;
  let begin = 0;
  const options: ConnectionOptions & { onread: OnReadOpts } = {
    host: "127.0.0.1",
    port: target.port,
    servername: target.servername,
    ca: target.ca,
    ALPNProtocols: ["http/1.1"],
    // One buffer for all of it, or this side's collector of garbage would be measured too.
    onread: {
      buffer: Buffer.alloc(256 * 1024),
      callback: (n) => {
        if (got === 0) begin = performance.now();
        got += n;
        if (got >= bytes) resolve(got / 1e6 / ((performance.now() - begin) / 1000));
        return true;
      },
    },
  };
  const socket = connect(options);
  socket.on("error", reject).on("close", () => reject(new Error(`the stream ended after ${got} bytes`)));
  socket.write(request);
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

/** Connections that have had their 101 and say nothing; the result ends them. */
export async function openWebSockets(
  count: number,
  open: (n: number) => Socket,
  request: (n: number) => Buffer,
  signal: AbortSignal,
): Promise<Disposable> {
  const sockets: Socket[] = [];
  const end = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < count; n = next++) {
      signal.throwIfAborted();
      const socket = open(n);
      sockets.push(socket);
      socket.write(request(n));
      const [head] = (await once(socket, "data")) as [Buffer];
      const line = head.toString("latin1").split("\r\n")[0];
      if (!line?.startsWith("HTTP/1.1 101 ")) throw new Error(`no WebSocket: ${line}`);
      socket.on("error", () => {});
    }
  };
  try {
    await Promise.all(Array.from({ length: 32 }, worker));
  } catch (err) {
    end();
    throw err;
  }
  return { [Symbol.dispose]: end };
}
