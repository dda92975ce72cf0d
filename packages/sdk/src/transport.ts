import { ApiError, apiErrorOf, UnreachableError } from "./api-error.ts";
import { type Credentials, Signer, sha256Hex } from "./signer.ts";

export interface ConnectionOptions {
  /** `http://127.0.0.1:4700` */
  readonly endpointUrl: string;
  readonly region: string;
  readonly credentials: Credentials;
}

export interface Send {
  readonly method: string;
  /** Encoded path and query, beginning with a slash. */
  readonly target: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | Blob;
  /** Of the body, when it is a Blob. */
  readonly bodySha256?: string;
}

/** One signed request at a time to one server. */
export class Transport {
  readonly #base: URL;
  readonly #signer: Signer;

  /** @throws TypeError when the URL is none */
  constructor(service: "lambda" | "s3", options: ConnectionOptions) {
    this.#base = new URL(options.endpointUrl);
    this.#signer = new Signer(service, options.region, options.credentials);
  }

  /**
   * The answer of a request that succeeded, its body not read yet.
   * @throws ApiError when the server refused, UnreachableError when it did not answer, the signal's reason
   */
  async send(request: Send, signal: AbortSignal): Promise<Response> {
    const { body } = request;
    const bodySha256 = body instanceof Blob ? (request.bodySha256 ?? "") : sha256Hex(body ?? "");
    const url = new URL(this.#base.pathname.replace(/\/+$/, "") + request.target, this.#base);
    const headers = await this.#signer.sign({
      method: request.method,
      url,
      headers: request.headers ?? {},
      bodySha256,
    });
    let response: Response;
    try {
      response = await fetch(url, {
        method: request.method,
        headers,
        redirect: "error",
        signal,
        ...(body === undefined ? {} : { body: body instanceof Uint8Array ? new Uint8Array(body) : body }),
      });
    } catch (err) {
      signal.throwIfAborted();
      throw new UnreachableError(url.origin, err);
    }
    if (response.ok) return response;
    throw apiErrorOf(response.status, response.headers, await readText(response, url.origin, signal));
  }

  /** @throws as send(), and ApiError when the answer is not JSON */
  async json(request: Send, signal: AbortSignal): Promise<unknown> {
    const response = await this.send(request, signal);
    const text = await readText(response, this.#base.origin, signal);
    if (text === "") return {};
    try {
      return JSON.parse(text);
    } catch {
      const requestId = response.headers.get("x-amzn-requestid") ?? undefined;
      throw new ApiError(response.status, "BadResponse", "the server's answer is not JSON: is it Torpor?", requestId);
    }
  }
}

async function readText(response: Response, origin: string, signal: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (err) {
    signal.throwIfAborted();
    throw new UnreachableError(origin, err);
  }
}
