import { type ClientRequest, type IncomingMessage, type InformationEvent, request as openRequest } from "node:http";
import type { Duplex } from "node:stream";
import { valuesOf } from "./header-lines.ts";
import type { EndpointLimits } from "./limits.ts";
import { APP_CONNECT_FAILED, Refused } from "./refusal.ts";

/** What the app made of a request: an answer, or the connection itself after a 101. */
export type AppAnswer =
  | { readonly kind: "answered"; readonly message: IncomingMessage }
  | {
      readonly kind: "switched";
      readonly message: IncomingMessage;
      readonly stream: Duplex;
      /** What the app sent in the same breath as its 101. */
      readonly first: Buffer;
    };

export interface AppRequest {
  /** The body goes here; `end()` is the caller's. */
  readonly body: ClientRequest;
  /** @throws Refused when the app closed, or sent what is no HTTP answer. */
  readonly answer: Promise<AppAnswer>;
}

export interface AppRequestHead {
  readonly method: string;
  readonly target: string;
  readonly lines: readonly string[];
}

/**
 * One request over a connection of its own to the app. The app is hostile: its header is bounded, its framing must be
 * beyond doubt, and interim answers are counted, since they could go on for ever.
 */
export function askApp(
  stream: Duplex,
  head: AppRequestHead,
  limits: Pick<EndpointLimits, "maxHeaderBytes" | "maxInterimAnswers">,
  onInterim: (answer: InformationEvent) => void,
): AppRequest {
  const body = openRequest({
    createConnection: () => stream,
    method: head.method,
    path: head.target,
    headers: head.lines,
    maxHeaderSize: limits.maxHeaderBytes,
    insecureHTTPParser: false,
  });
  body.maxHeadersCount = 0; // no lines dropped behind our back: the size bounds them
  const answer = new Promise<AppAnswer>((resolve, reject) => {
    let settled = false;
    const succeed = (value: AppAnswer): void => {
      settled = true;
      resolve(value);
    };
    const fail = (message: string, cause?: unknown): void => {
      if (settled) return; // from here on the answer's own stream tells
      settled = true;
      reject(new Refused(APP_CONNECT_FAILED, message, { cause }));
      stream.destroy();
    };
    let interim = 0;
    body.on("information", (info) => {
      interim++;
      if (interim > limits.maxInterimAnswers) fail("the app sends interim answers without end");
      else if (!settled) onInterim(info);
    });
    body.on("response", (message) => {
      message.on("error", () => {}); // whoever reads it hears of it
      const doubt = doubtAbout(message);
      if (doubt === undefined) succeed({ kind: "answered", message });
      else fail(doubt);
    });
    body.on("upgrade", (message, upgraded, first) => {
      succeed({ kind: "switched", message, stream: upgraded, first });
    });
    body.on("error", (err) => fail("the app broke the connection", err));
    body.on("close", () => fail("the app closed without an answer"));
  });
  answer.catch(() => {}); // it may fail before anyone waits for it
  return { body, answer };
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
