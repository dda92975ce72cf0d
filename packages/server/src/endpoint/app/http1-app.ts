import { type ClientRequest, type IncomingMessage, request as openRequest } from "node:http";
import type { Duplex } from "node:stream";
import { errnoOf } from "../../lib/errors.ts";
import { type HeaderLines, pairsOf, valuesOf } from "../header-lines.ts";
import type { EndpointLimits } from "../limits.ts";
import { APP_CONNECT_FAILED, Refused } from "../refusal.ts";
import type { AppAnswer, AppSide, AppSwitch, OnInterim } from "./app-side.ts";

export interface Http1Request {
  readonly method: string;
  readonly target: string;
  readonly lines: readonly string[];
}

/** A kept connection ended before a byte of an answer: the app had closed it when the request set out. */
export class StaleConnection extends Error {
  override readonly name = "StaleConnection";
}

export interface Http1Connection {
  readonly stream: Duplex;
  /** It has had a request before. */
  readonly reused: boolean;
  /** Called when it is fit for another request, all of this one and of its answer being over; it is ended otherwise. */
  readonly keep?: (stream: Duplex) => void;
}

/**
 * One request to an app in HTTP/1.1. The app is hostile: its header is bounded, its framing must be beyond doubt, and
 * interim answers are counted, since they could go on for ever.
 */
export function askHttp1(
  { stream, reused, keep }: Http1Connection,
  head: Http1Request,
  limits: Pick<EndpointLimits, "maxHeaderBytes" | "maxInterimAnswers">,
  onInterim: OnInterim,
): AppSide {
  const body = openRequest({
    createConnection: () => stream,
    method: head.method,
    path: head.target,
    headers: head.lines,
    maxHeaderSize: limits.maxHeaderBytes,
    insecureHTTPParser: false,
  });
  body.maxHeadersCount = 0; // no lines dropped behind our back: the size bounds them
  body.shouldKeepAlive = keep !== undefined; // without an agent Node takes for granted that nobody wants to
  let free = false;
  const onFree = (): void => {
    free = true;
  };
  stream.once("free", onFree); // as Node tells its agents
  const answer = answerTo(body, stream, reused, head.method, limits.maxInterimAnswers, onInterim);
  answer.then(
    ({ kind }) => {
      if (kind === "switched") stream.off("free", onFree); // nor is the request kept by it
    },
    () => {}, // it may fail before anyone waits for it
  );
  return {
    body,
    answer,
    endBody: (trailers) => {
      if (trailers.length > 0) body.addTrailers(pairsOf(trailers));
      body.end();
    },
    abort: () => void stream.destroy(),
    [Symbol.dispose]: () => {
      stream.off("free", onFree);
      if (free && keep !== undefined && !stream.destroyed) keep(stream);
      else stream.destroy();
    },
  };
}

function answerTo(
  body: ClientRequest,
  stream: Duplex,
  reused: boolean,
  method: string,
  maxInterim: number,
  onInterim: OnInterim,
): Promise<AppAnswer | AppSwitch> {
  return new Promise((resolve, reject) => {
    let settled = false;
    const succeed = (value: AppAnswer | AppSwitch): void => {
      settled = true;
      resolve(value);
    };
    const fail = (failure: Error): void => {
      if (settled) return; // from here on the answer's own stream tells
      settled = true;
      reject(failure);
      stream.destroy();
    };
    const refuse = (message: string, cause?: unknown): void =>
      fail(new Refused(APP_CONNECT_FAILED, message, { cause }));
    let interim = 0;
    body.on("information", ({ statusCode, rawHeaders }) => {
      interim++;
      if (interim > maxInterim) refuse("the app sends interim answers without end");
      else if (!settled) onInterim(statusCode, rawHeaders);
    });
    body.on("response", (message) => {
      message.on("error", () => {}); // whoever reads it hears of it
      const doubt = doubtAbout(message);
      if (doubt === undefined) succeed(answered(message, method));
      else refuse(doubt);
    });
    body.on("upgrade", (message, upgraded, first) => {
      succeed({ kind: "switched", lines: message.rawHeaders, stream: upgraded, first });
    });
    body.on("error", (err) => {
      const hungUp = interim === 0 && ["ECONNRESET", "EPIPE"].includes(errnoOf(err) ?? "");
      if (hungUp && reused) fail(new StaleConnection("the app has closed the connection", { cause: err }));
      else refuse("the app broke the connection", err);
    });
    body.on("close", () => refuse("the app closed without an answer"));
  });
}

function answered(message: IncomingMessage, method: string): AppAnswer {
  const { statusCode: status = 0, statusMessage: reason = "", rawHeaders: lines } = message;
  return {
    kind: "answered",
    status,
    reason,
    lines,
    body: message,
    bodiless: method === "HEAD" || status === 204 || status === 304 || valuesOf(lines, "content-length")[0] === "0",
    mayTrail: valuesOf(lines, "transfer-encoding").length > 0,
    whole: () => message.complete,
    trailers: (): HeaderLines => message.rawTrailers,
  };
}

/** Why an answer cannot be passed on. */
function doubtAbout(message: IncomingMessage): string | undefined {
  const status = message.statusCode ?? 0;
  if (status < 200 || status > 999) return `the app answered with status ${status}`;
  const codings = valuesOf(message.rawHeaders, "transfer-encoding");
  if (codings.length > 1 || (codings.length === 1 && codings[0]?.toLowerCase() !== "chunked"))
    return "the app answered with an odd Transfer-Encoding";
  return undefined;
}
