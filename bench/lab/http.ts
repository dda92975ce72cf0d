import { request as plain } from "node:http";
import { request as tls } from "node:https";
import type { LookupFunction } from "node:net";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

export interface Target {
  readonly url: URL;
  /** Where the name is, without asking a name server. */
  readonly address?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly ca?: string;
  /** Given up when the connection is not there by then. */
  readonly connectMs?: number;
}

/** One request over a connection of its own, answered whole: the bodies here are a few bytes. */
export function get(target: Target, path: string, timeoutMs: number): Promise<Answer> {
  const url = new URL(path, target.url);
  return new Promise((resolve, reject) => {
    const { address } = target;
    const lookup: LookupFunction = (_host, _options, done) => done(null, [{ address: address ?? "", family: 4 }]);
    const call = (url.protocol === "https:" ? tls : plain)(url, {
      agent: false,
      timeout: timeoutMs,
      ...(target.headers && { headers: { ...target.headers } }),
      ...(target.ca && { ca: target.ca }),
      ...(address && { lookup }),
    });
    call.once("response", (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    const { connectMs } = target;
    if (connectMs !== undefined)
      call.once("socket", (socket) => {
        const late = new Error(`${url.href}: no connection in ${connectMs} ms`);
        const timer = setTimeout(() => call.destroy(late), connectMs);
        socket.once("connect", () => clearTimeout(timer));
        socket.once("close", () => clearTimeout(timer));
      });
    call.once("timeout", () => call.destroy(new Error(`${url.href}: no answer in ${timeoutMs} ms`)));
    call.once("error", reject);
    call.end();
  });
}
