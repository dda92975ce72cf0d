import { connect } from "node:net";
import type { Credentials } from "../fake-host/server.ts";
import type { FuzzRequest } from "./requests.ts";
import { signatureOf } from "./sign.ts";

export interface Answer {
  /** Undefined when nothing came that could be one. */
  readonly status: number | undefined;
  readonly head: string;
  readonly body: string;
  /** The other side ended the connection. */
  readonly ended: boolean;
}

/** The bytes of the request. */
export function written(request: FuzzRequest, credentials: Credentials, at: Date): Buffer {
  const { method, target, body, framing, signed } = request;
  if (framing === "garbage") return Buffer.concat([Buffer.from(target, "latin1"), body]);
  const key = signed === "wrongly" ? { ...credentials, secretAccessKey: "guess" } : credentials;
  const signature: readonly (readonly [string, string])[] =
    signed === "not"
      ? [["host", "localhost"]]
      : signatureOf({ method, target, body }, signed === "s3" ? "s3" : "lambda", key, at);
  const headers = [...signature, ["connection", "close"] as const, ...request.headers];
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const [framed, sent] = framedBody(request);
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines}${framed}\r\n`, "latin1"), sent]);
}

/** Header lines that tell where the body ends, and the body as it is sent. */
function framedBody({ body, framing }: FuzzRequest): readonly [string, Buffer] {
  const length = (n: number): string => `content-length: ${n}\r\n`;
  const half = Math.floor(body.length / 2);
  const chunk = (bytes: Buffer): Buffer =>
    bytes.length === 0 ? bytes : Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, CRLF]);
  const chunks = Buffer.concat([chunk(body.subarray(0, half)), chunk(body.subarray(half))]);
  switch (framing) {
    case "length":
    case "garbage":
      return [body.length === 0 ? "" : length(body.length), body];
    case "chunks":
      return [CHUNKED, Buffer.concat([chunks, LAST])];
    case "a length too large":
      return [length(body.length + 7), body];
    case "a length too small":
      return [length(half), body];
    case "length and chunks":
      return [length(body.length) + CHUNKED, Buffer.concat([chunks, LAST])];
    case "two lengths":
      return [length(body.length) + length(body.length + 1), body];
    case "a broken chunk size":
      return [CHUNKED, Buffer.concat([Buffer.from("zz\r\n"), body, CRLF, LAST])];
    case "chunks without an end":
      return [CHUNKED, chunks];
    case "a negative length":
      return ["content-length: -1\r\n", body];
    default:
      return framing satisfies never;
  }
}

const CRLF = Buffer.from("\r\n");
const LAST = Buffer.from("0\r\n\r\n");
const CHUNKED = "transfer-encoding: chunked\r\n";

/**
 * Sends the bytes over a connection of their own and takes what comes back, until the other side ends it or `ms` pass.
 * @param until answers that are to be cut off when their head is there: they never end
 */
export async function exchange(
  port: number,
  bytes: Buffer,
  ms: number,
  until: (head: string) => boolean,
): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, "127.0.0.1");
  const timer = setTimeout(() => resolve(false), ms);
  let text = "";
  socket.setEncoding("latin1").on("data", (more: string) => {
    text += more;
    if (until(headOf(text))) resolve(true);
  });
  socket.on("error", () => resolve(true)); // a reset after the answer is as good an end as any
  socket.on("close", () => resolve(true));
  socket.write(bytes);
  const ended = await promise;
  clearTimeout(timer);
  socket.destroy();
  // What came before the answer proper: `100 Continue`.
  const final = text.replace(/^(HTTP\/1\.1 1\d\d [^\r]*\r\n\r\n)+/, "");
  const head = headOf(final);
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1];
  const rest = final.slice(head.length);
  const body = /^transfer-encoding: chunked\r$/im.test(head) ? withoutChunks(rest) : rest;
  return { status: status === undefined ? undefined : Number(status), head, body, ended };
}

function withoutChunks(text: string): string {
  let whole = "";
  for (let rest = text; ; ) {
    const [line, size] = /^([0-9a-f]+)\r\n/i.exec(rest) ?? [];
    const length = Number.parseInt(size ?? "0", 16);
    if (line === undefined || length === 0) return whole;
    whole += rest.slice(line.length, line.length + length);
    rest = rest.slice(line.length + length + 2);
  }
}

function headOf(text: string): string {
  const end = text.indexOf("\r\n\r\n");
  return end < 0 ? "" : text.slice(0, end + 4);
}
