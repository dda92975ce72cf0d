import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type SecureClientSessionOptions } from "node:http2";
import { connect as netConnect } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { type Bench, hostOf } from "./bench.ts";
import type { StubMicrovm } from "./stub-gate.ts";

export interface Http2Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly rawHeaders: readonly string[];
  readonly trailers: Readonly<Record<string, unknown>>;
  readonly body: string;
  /** The code of the reset that ended it; 0 is none. */
  readonly reset: number;
}

/** An HTTP/2 connection of a client that trusts our CA. */
export async function connectHttp2(
  bench: Bench,
  microvm: Pick<StubMicrovm, "label">,
  options: SecureClientSessionOptions = {},
): Promise<ClientHttp2Session> {
  const session = connect(`https://${hostOf(microvm)}:${bench.server.address.port}`, {
    createConnection: () =>
      tlsConnect({
        socket: netConnect({ port: bench.server.address.port, host: "127.0.0.1" }),
        servername: hostOf(microvm),
        ca: bench.ca,
        ALPNProtocols: ["h2"],
      }),
    ...options,
  });
  session.on("error", () => {});
  await once(session, "connect");
  return session;
}

/** The whole answer, as far as it came. */
export async function answerOf(stream: ClientHttp2Stream): Promise<Http2Answer> {
  stream.on("error", () => {});
  let headers: Record<string, unknown> = {};
  let rawHeaders: readonly string[] = [];
  let trailers: Record<string, unknown> = {};
  let body = "";
  stream.on("response", (received, _flags, raw?: readonly string[]) => {
    headers = received;
    rawHeaders = raw ?? [];
  });
  stream.on("trailers", (received) => {
    trailers = received;
  });
  stream.setEncoding("latin1").on("data", (chunk: string) => {
    body += chunk;
  });
  if (!stream.closed) await new Promise((resolve) => stream.once("close", resolve));
  return { status: Number(headers[":status"]), headers, rawHeaders, trailers, body, reset: stream.rstCode ?? 0 };
}

/** A request with its whole answer. */
export async function askHttp2(
  session: ClientHttp2Session,
  headers: readonly string[] | Readonly<Record<string, string | string[]>>,
  body?: string | Buffer,
): Promise<Http2Answer> {
  const lines = Array.isArray(headers) ? (headers as readonly string[]) : { ...headers };
  const stream = session.request(lines, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  return await answerOf(stream);
}
