import { constants, performServerHandshake, type ServerHttp2Stream } from "node:http2";
import type { Clock } from "../../lib/clock.ts";
import type { Connection } from "../connection.ts";
import type { HeaderLines } from "../header-lines.ts";
import { endOnFlood } from "../http2-flood.ts";
import type { EndpointLimits } from "../limits.ts";
import { Http2Client } from "./http2-client.ts";

/** Requests that a client may open and reset at once, and for each second after that; Node ends the connection then. */
const RESETS = { streamResetBurst: 1000, streamResetRate: 33 };

/**
 * Speaks HTTP/2 with a client whose handshake chose it.
 * @param serve is called for each request; it never rejects
 */
export function acceptHttp2(
  connection: Connection,
  limits: EndpointLimits,
  clock: Clock,
  serve: (client: Http2Client) => Promise<void>,
): void {
  const { socket } = connection;
  const session = performServerHandshake(socket, {
    settings: {
      enablePush: false,
      initialWindowSize: limits.http2WindowBytes,
      maxConcurrentStreams: limits.http2MaxStreams,
      // Ours answers what is beyond its limits; Node's, which resets, is for what is far beyond.
      maxHeaderListSize: limits.maxHeaderBytes * 2,
    },
    maxHeaderListPairs: limits.maxHeaderLines * 4,
    strictSingleValueFields: false, // an app's lines are passed on as they are
    ...RESETS,
  });
  session.setLocalWindowSize(limits.http2WindowBytes * 4);
  session.on("error", () => socket.destroy());
  socket.once("end", () => socket.destroy()); // nothing is half open in HTTP/2
  let open = 0;
  endOnFlood(session, clock, () => open > 0);
  let cancel = clock.after(limits.headerTimeoutMs, () => session.destroy(undefined, constants.NGHTTP2_NO_ERROR));
  const rest = (): void => {
    cancel = clock.after(limits.keepAliveTimeoutMs, () => session.close());
  };
  session.once("close", () => {
    cancel();
    socket.destroy();
  });
  session.on("stream", (stream: ServerHttp2Stream, _headers: unknown, flags: number, lines: HeaderLines) => {
    if (open++ === 0) cancel();
    const ended = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    void serve(new Http2Client(stream, lines, ended)).finally(() => {
      if (--open === 0 && !session.closed) rest();
    });
  });
}
