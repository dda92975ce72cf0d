import type { Socket } from "node:net";
import type { Clock } from "../../lib/clock.ts";
import { type ProxyHeader, ProxyHeaderError, parseProxyHeader } from "./proxy-header.ts";

/**
 * Reads the header off a connection; what follows it is put back.
 * @throws ProxyHeaderError, also when the connection ends or is silent for so long
 */
export function readProxyHeader(socket: Socket, clock: Clock, ms: number): Promise<ProxyHeader> {
  return new Promise((resolve, reject) => {
    let bytes: Buffer = Buffer.alloc(0);
    const settle = (how: () => void): void => {
      cancel();
      socket.off("readable", onReadable).off("end", onEnd).off("close", onEnd);
      how();
    };
    const fail = (err: unknown): void => settle(() => reject(err));
    const onEnd = (): void => fail(new ProxyHeaderError("the connection ended before its PROXY header"));
    const onReadable = (): void => {
      for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
        bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
        try {
          const header = parseProxyHeader(bytes);
          if (header === undefined) continue;
          const rest = bytes.subarray(header.length);
          settle(() => {
            if (rest.length > 0) socket.unshift(rest);
            resolve(header);
          });
        } catch (err) {
          fail(err);
        }
        return;
      }
    };
    const cancel = clock.after(ms, () => fail(new ProxyHeaderError("the PROXY header did not come in time")));
    socket.on("readable", onReadable).on("end", onEnd).on("close", onEnd);
  });
}
