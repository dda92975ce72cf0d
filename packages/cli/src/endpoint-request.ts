import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { type RequestOptions, request } from "node:https";
import { rootCertificates } from "node:tls";
import { lookupOf, UnreachableError } from "@torpor/sdk";

export interface EndpointRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array;
  /** PEM of an authority to trust besides the public ones. */
  readonly caFile?: string | undefined;
}

export interface EndpointAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Not read yet. */
  readonly body: IncomingMessage;
}

/**
 * One request to a microvm's endpoint. Names under `.localhost` are this machine (RFC 6761), whatever DNS says.
 * @throws UnreachableError when no answer came
 */
export async function endpointRequest(options: EndpointRequest, signal: AbortSignal): Promise<EndpointAnswer> {
  const { url, caFile } = options;
  const ca = caFile === undefined ? undefined : [...rootCertificates, readFileSync(caFile, "utf8")];
  const lookup = lookupOf(url.hostname);
  const settings: RequestOptions = {
    method: options.method,
    headers: Object.fromEntries(
      Object.entries(options.headers).map(([k, v]) => [k, typeof v === "string" ? v : [...v]]),
    ),
    signal,
    agent: false,
    ...(ca === undefined ? {} : { ca }),
    ...(lookup && { lookup }),
  };
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = request(url, settings, resolve);
      outgoing.once("error", reject);
      outgoing.end(options.body);
    });
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: answer };
  } catch (err) {
    signal.throwIfAborted();
    throw new UnreachableError(url.origin, err);
  }
}
