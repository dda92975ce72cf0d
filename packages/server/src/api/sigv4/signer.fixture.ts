import { createHash, createHmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";
import type { AccessKey, AccessKeys } from "../../control/request-context.ts";
import type { SignedRequest, SignedService } from "./sigv4.ts";

/** The signer of the AWS SDKs, for tests to sign with. */

export const KEY: AccessKey = {
  accessKeyId: "AKIATESTTESTTESTTEST",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
  accountId: "111122223333",
  principalArn: "arn:aws:iam::111122223333:root",
  name: "root",
  access: "full",
  expiresAt: null,
};
export const KEYS: AccessKeys = {
  find: async (accessKeyId) => (accessKeyId === KEY.accessKeyId ? KEY : undefined),
  used: () => {},
};

export class Sha256 {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", bytes(secret));
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytes(data));
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
  reset(): void {
    throw new Error("a hash is used once");
  }
}

const bytes = (data: string | ArrayBuffer | ArrayBufferView): Uint8Array =>
  typeof data === "string"
    ? Buffer.from(data, "utf8")
    : ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data);

export interface ToSign {
  readonly method: string;
  readonly path: string;
  readonly query?: Record<string, string | string[]>;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

export function signerOf(service: string, options: { applyChecksum?: boolean; region?: string; key?: AccessKey } = {}) {
  const key = options.key ?? KEY;
  return new SignatureV4({
    service,
    region: options.region ?? "us-east-1",
    sha256: Sha256,
    credentials: { accessKeyId: key.accessKeyId, secretAccessKey: key.secretAccessKey },
    uriEscapePath: service !== "s3",
    applyChecksum: options.applyChecksum ?? true,
  });
}

/** Signed in the Authorization header and laid out as Node's server would hand it over. */
export async function signed(
  request: ToSign,
  service: SignedService,
  at: number,
  options: Parameters<typeof signerOf>[1] = {},
): Promise<SignedRequest> {
  const headers = { host: "127.0.0.1:4700", ...request.headers };
  const out = await signerOf(service, options).sign(
    { ...http, ...request, headers, query: request.query ?? {} },
    { signingDate: new Date(at) },
  );
  return asReceived(out, request.body);
}

/** Signed in the query. */
export async function presigned(
  request: ToSign,
  service: SignedService,
  at: number,
  expiresIn = 900,
): Promise<SignedRequest> {
  const headers = { host: "127.0.0.1:4700", ...request.headers };
  const out = await signerOf(service).presign(
    { ...http, ...request, headers, query: request.query ?? {} },
    { signingDate: new Date(at), expiresIn },
  );
  return asReceived(out, request.body);
}

const http = { protocol: "http:", hostname: "127.0.0.1", port: 4700 };

function asReceived(
  out: { method: string; path: string; query?: unknown; headers: Record<string, string> },
  body: string | undefined,
): SignedRequest {
  const query = Object.entries((out.query ?? {}) as Record<string, string | string[]>).flatMap(([name, value]) =>
    [value].flat().map((one) => `${percentEncode(name)}=${percentEncode(one)}`),
  );
  return {
    method: out.method,
    url: query.length === 0 ? out.path : `${out.path}?${query.join("&")}`,
    headers: out.headers,
    rawHeaders: Object.entries(out.headers).flat(),
    bodySha256: createHash("sha256")
      .update(body ?? "")
      .digest("hex"),
  };
}

const percentEncode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
