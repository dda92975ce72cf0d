import { STATUS_CODES } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { Duplex } from "node:stream";
import type { Clock } from "../../lib/clock.ts";
import { Deadline } from "../deadline.ts";
import { groupsOf, type HeaderLines } from "../header-lines.ts";
import { endOnFlood } from "../http2-flood.ts";
import type { EndpointLimits } from "../limits.ts";
import { onAbort } from "../on-abort.ts";
import { APP_CONNECT_FAILED, Refused } from "../refusal.ts";
import { linesForHttp2 } from "../relayed-headers.ts";
import type { AppAnswer, AppSide, OnInterim } from "./app-side.ts";

const { NGHTTP2_FLAG_END_STREAM, NGHTTP2_NO_ERROR } = constants;

/**
 * Cleartext HTTP/2 with prior knowledge. Resolves when the app has shown that it speaks it.
 * @throws Refused when it does not, or takes too long; the signal's reason. The stream is ended then.
 */
export async function openHttp2(
  stream: Duplex,
  limits: EndpointLimits,
  clock: Clock,
  signal: AbortSignal,
): Promise<ClientHttp2Session> {
  using deadline = new Deadline(clock, limits.connectTimeoutMs, signal);
  const options = {
    createConnection: () => stream,
    settings: {
      enablePush: false,
      initialWindowSize: limits.http2WindowBytes,
      maxHeaderListSize: limits.maxHeaderBytes,
    },
    maxHeaderListPairs: 1000, // their size bounds them
    strictSingleValueFields: false, // a client's lines are passed on as they are
  };
  const session = connect("http://guest", options);
  session.on("error", () => {}); // its streams hear of it
  session.once("close", () => stream.destroy());
  stream.once("end", () => stream.destroy()); // nothing is half open in HTTP/2
  endOnFlood(session, clock, () => true);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (cause?: unknown): void =>
    reject(new Refused(APP_CONNECT_FAILED, "the app does not speak HTTP/2", { cause }));
  session.once("remoteSettings", () => resolve());
  session.once("error", fail).once("close", () => fail());
  session.once("connect", () => session.setLocalWindowSize(limits.http2WindowBytes * 4));
  using _ = onAbort(deadline.signal, (reason) => fail(reason));
  try {
    await promise;
    return session;
  } catch (err) {
    session.destroy();
    stream.destroy();
    signal.throwIfAborted();
    throw err;
  }
}

/** One request to an app in HTTP/2. The same is watched as in HTTP/1.1. */
export function askHttp2(
  session: ClientHttp2Session,
  lines: readonly string[],
  bodiless: boolean,
  limits: Pick<EndpointLimits, "maxInterimAnswers">,
  onInterim: OnInterim,
): AppSide {
  let trailers: HeaderLines = [];
  // A reset by this signal is CANCEL. Not by `close` with a code: Node would end the stream first, as if it were whole.
  const cancel = new AbortController();
  const options = { endStream: bodiless, waitForTrailers: !bodiless, signal: cancel.signal };
  const stream = session.request(lines, options);
  stream.once("wantTrailers", () => {
    try {
      stream.sendTrailers(groupsOf(linesForHttp2(trailers)));
    } catch {
      cancel.abort(); // without its trailers the request is not whole
    }
  });
  const answer = answerTo(stream, () => cancel.abort(), limits.maxInterimAnswers, onInterim);
  answer.catch(() => {}); // it may fail before anyone waits for it
  return {
    body: stream,
    answer,
    endBody: (sent) => {
      trailers = sent;
      stream.end();
    },
    abort: () => cancel.abort(),
    [Symbol.dispose]: () => {
      if (!stream.readableEnded || !stream.writableFinished) cancel.abort();
    },
  };
}

function answerTo(
  stream: ClientHttp2Stream,
  cancel: () => void,
  maxInterim: number,
  onInterim: OnInterim,
): Promise<AppAnswer> {
  return new Promise((resolve, reject) => {
    let trailers: HeaderLines = [];
    const fail = (message: string, cause?: unknown): void => {
      reject(new Refused(APP_CONNECT_FAILED, message, { cause }));
      cancel();
    };
    let interim = 0;
    stream.on("headers", (headers, _flags, raw?: HeaderLines) => {
      interim++;
      if (interim > maxInterim) fail("the app sends interim answers without end");
      else onInterim(Number(headers[":status"]), withoutPseudo(raw ?? []));
    });
    stream.on("trailers", (_headers: unknown, _flags: unknown, raw?: HeaderLines) => {
      trailers = raw ?? [];
    });
    stream.once("response", (headers, flags, raw?: HeaderLines) => {
      const status = Number(headers[":status"]);
      const lines = withoutPseudo(raw ?? []);
      if (!(status >= 200 && status <= 999)) return fail(`the app answered with status ${status}`);
      const bodiless = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
      resolve({
        kind: "answered",
        status,
        reason: STATUS_CODES[status] ?? "",
        lines,
        body: stream,
        bodiless,
        mayTrail: !bodiless,
        // After a reset Node ends the body as if it were whole.
        whole: () => !stream.aborted && (stream.rstCode ?? NGHTTP2_NO_ERROR) === NGHTTP2_NO_ERROR,
        trailers: () => trailers,
      });
    });
    stream.on("error", (err) => fail("the app broke the connection", err));
    stream.once("close", () => fail("the app closed without an answer")); // or after one: then it has been settled
  });
}

const withoutPseudo = (lines: HeaderLines): string[] => lines.filter((_, i) => !lines[i - (i % 2)]?.startsWith(":"));
