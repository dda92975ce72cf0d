import { createHash } from "node:crypto";
import { ApiError } from "./api-error.ts";
import { type ConnectionOptions, Transport } from "./transport.ts";
import { encodeLabel } from "./wire.ts";

/** The little of S3 that uploading an artifact takes: path style, one request an object. */
export class ObjectStore {
  readonly #transport: Transport;

  constructor(options: ConnectionOptions) {
    this.#transport = new Transport("s3", options);
  }

  /** The bucket exists afterwards. @throws ApiError, UnreachableError */
  async createBucketIfMissing(bucket: string, signal: AbortSignal): Promise<void> {
    try {
      await drain(await this.#transport.send({ method: "PUT", target: `/${encodeLabel(bucket)}` }, signal));
    } catch (err) {
      if (err instanceof ApiError && err.status === 409 && /^BucketAlready/.test(err.type)) return;
      throw err;
    }
  }

  /** Stores the object, its content covered by the signature. @throws ApiError, UnreachableError */
  async put(bucket: string, key: string, body: Blob, signal: AbortSignal): Promise<void> {
    const hash = createHash("sha256");
    for await (const chunk of body.stream()) {
      signal.throwIfAborted();
      hash.update(chunk);
    }
    const target = `/${encodeLabel(bucket)}/${key.split("/").map(encodeLabel).join("/")}`;
    await drain(await this.#transport.send({ method: "PUT", target, body, bodySha256: hash.digest("hex") }, signal));
  }
}

/** A body that nobody reads keeps its connection busy. */
async function drain(response: Response): Promise<void> {
  await response.arrayBuffer();
}
