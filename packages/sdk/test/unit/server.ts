import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { SignatureV4 } from "@smithy/signature-v4";
import { HashOfNode } from "./sha256.ts";

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export const KEY = { accessKeyId: "AKIDTEST", secretAccessKey: "not so secret" };

/** A server on loopback that keeps what it was asked and answers as it is told. */
export async function listen(answer: (seen: Seen, response: ServerResponse) => void) {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text;
    });
    request.on("end", () => {
      const one = { method: request.method ?? "", url: request.url ?? "", headers: request.headers, body };
      seen.push(one);
      answer(one, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const url = `http://127.0.0.1:${address.port}`;
  return {
    url,
    seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Signs what arrived once more, from the wire alone, and says whether that gives the signature it came with. */
export async function signatureIsRight(seen: Seen, service: string): Promise<boolean> {
  const authorization = seen.headers.authorization ?? "";
  const signedHeaders = /SignedHeaders=([^,]+)/.exec(authorization)?.[1]?.split(";") ?? [];
  const url = new URL(seen.url, `http://${seen.headers.host}`);
  const headers = Object.fromEntries(signedHeaders.map((name) => [name, String(seen.headers[name])]));
  const stamp = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(headers["x-amz-date"] ?? "");
  if (!stamp) return false;
  const [, y, m, d, hh, mm, ss] = stamp;
  const again = await new SignatureV4({
    service,
    region: "eu-test-1",
    credentials: KEY,
    sha256: HashOfNode,
    uriEscapePath: service !== "s3",
    applyChecksum: false,
  }).sign(
    {
      method: seen.method,
      protocol: "http:",
      hostname: url.hostname,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers,
    },
    { signingDate: new Date(`${y}-${m}-${d}T${hh}:${mm}:${ss}Z`) },
  );
  return again.headers.authorization === authorization;
}
