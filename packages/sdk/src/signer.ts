import { createHash, createHmac, type Hash, type Hmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface RequestToSign {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Lower-case hex sha256 of the body. */
  readonly bodySha256: string;
}

/** Node's own SHA-256, in the form that the signing library takes. */
class Sha256 {
  #hash: Hash | Hmac;
  readonly #secret: string | ArrayBuffer | ArrayBufferView | undefined;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#secret = secret;
    this.#hash = begin(secret);
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(typeof data === "string" ? data : bytesOf(data));
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
  reset(): void {
    this.#hash = begin(this.#secret);
  }
}

const begin = (secret: string | ArrayBuffer | ArrayBufferView | undefined): Hash | Hmac =>
  secret === undefined
    ? createHash("sha256")
    : createHmac("sha256", typeof secret === "string" ? secret : bytesOf(secret));

const bytesOf = (data: ArrayBuffer | ArrayBufferView): Uint8Array =>
  data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** Signs requests (SigV4). The path and query of the URL must be encoded as they will be sent. */
export class Signer {
  readonly #v4: SignatureV4;

  constructor(service: "lambda" | "s3", region: string, credentials: Credentials) {
    this.#v4 = new SignatureV4({
      service,
      region,
      credentials: { ...credentials },
      sha256: Sha256,
      // S3 signs the path as it is; every other service encodes it a second time.
      uriEscapePath: service !== "s3",
      applyChecksum: false,
    });
  }

  /** All headers that the request must carry, `host` left out: the HTTP client sets it itself. */
  async sign(request: RequestToSign): Promise<Record<string, string>> {
    const { url } = request;
    const query: Record<string, string[]> = {};
    for (const name of new Set(url.searchParams.keys())) query[name] = url.searchParams.getAll(name);
    const signed = await this.#v4.sign({
      method: request.method,
      protocol: url.protocol,
      hostname: url.hostname,
      ...(url.port === "" ? {} : { port: Number(url.port) }),
      path: url.pathname,
      query,
      headers: { ...request.headers, host: url.host, "x-amz-content-sha256": request.bodySha256 },
    });
    const { host: _, ...headers } = signed.headers;
    return headers;
  }
}

export const sha256Hex = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");
