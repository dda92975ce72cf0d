import { Readable } from "node:stream";
import { GetObjectCommand, S3Client, S3ServiceException } from "@aws-sdk/client-s3";
import { invalidInput } from "../lib/errors.ts";
import { BlobError, type BlobSource } from "./blob-store.ts";

export interface S3SourceOptions {
  /** The one server that is ever asked, such as `https://s3.example.com`: no redirect leads elsewhere. */
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly forcePathStyle: boolean;
  /** Longest time until the object's head has come, retries included. */
  readonly openTimeoutMs?: number;
  /** Longest time in which nothing of the object comes although it is waited for. */
  readonly idleTimeoutMs?: number;
}

const OPEN_TIMEOUT_MS = 60_000;
const IDLE_TIMEOUT_MS = 30_000;
const ATTEMPTS = 3;

/**
 * Objects of an external S3 service, which is asked with the server's own key on behalf of every account.
 * @throws TorporError invalid_input when the settings cannot be right
 */
export function s3BlobSource(options: S3SourceOptions): BlobSource & AsyncDisposable {
  const client = createClient(options);
  const idleMs = options.idleTimeoutMs ?? IDLE_TIMEOUT_MS;
  return {
    async open(_accountId, bucket, key, signal) {
      const deadline = AbortSignal.timeout(options.openTimeoutMs ?? OPEN_TIMEOUT_MS);
      try {
        const object = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }), {
          abortSignal: AbortSignal.any([signal, deadline]),
        });
        const { Body, ContentLength } = object;
        if (!(Body instanceof Readable) || ContentLength === undefined)
          throw new BlobError("INTERNAL_PLATFORM_ERROR", "The S3 service answered without an object.");
        // Whoever reads learns of an error by reading; until then it must not end the process.
        Body.on("error", () => {});
        const body = Readable.from(pass(Body, ContentLength, idleMs, signal));
        body.on("error", () => {}).once("close", () => Body.destroy());
        return { size: ContentLength, body };
      } catch (err) {
        signal.throwIfAborted();
        throw toBlobError(err, `s3://${bucket}/${key}`);
      }
    },
    async [Symbol.asyncDispose]() {
      client.destroy();
    },
  };
}

function createClient(options: S3SourceOptions): S3Client {
  if (!URL.canParse(options.endpoint) || !/^https?:$/.test(new URL(options.endpoint).protocol))
    throw invalidInput(`s3-endpoint must be an http or https URL, got ${JSON.stringify(options.endpoint)}`);
  if (options.accessKeyId === "" || options.secretAccessKey === "")
    throw invalidInput("s3-endpoint needs s3-access-key-id and s3-secret-access-key");
  return new S3Client({
    endpoint: options.endpoint,
    region: options.region,
    credentials: { accessKeyId: options.accessKeyId, secretAccessKey: options.secretAccessKey },
    forcePathStyle: options.forcePathStyle,
    followRegionRedirects: false,
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: 5_000 },
  });
}

/** The body, cut when it stalls while it is waited for; ends with an error when bytes are missing. */
async function* pass(body: Readable, size: number, idleMs: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const watch = new StallWatch(body, idleMs);
  const abort = (): void => void body.destroy(asError(signal.reason));
  signal.addEventListener("abort", abort, { once: true });
  let received = 0;
  try {
    if (signal.aborted) abort();
    watch.start();
    for await (const chunk of body) {
      watch.stop();
      if (!(chunk instanceof Uint8Array)) throw new Error("the body has been given an encoding");
      received += chunk.length;
      yield chunk;
      watch.start();
    }
    if (received !== size) throw new Error(`${received} of ${size} bytes came`);
  } catch (err) {
    signal.throwIfAborted();
    throw new BlobError("INTERNAL_PLATFORM_ERROR", "The download from the S3 service broke off.", { cause: err });
  } finally {
    watch.stop();
    signal.removeEventListener("abort", abort);
  }
}

/** Destroys the body when nothing comes for too long between start and stop: a slow consumer is no stall. */
class StallWatch {
  readonly #body: Readable;
  readonly #ms: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(body: Readable, ms: number) {
    this.#body = body;
    this.#ms = ms;
  }

  start(): void {
    this.#timer = setTimeout(() => this.#body.destroy(new Error(`nothing came for ${this.#ms} ms`)), this.#ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

const CODES: Readonly<Record<string, BlobError["code"]>> = {
  NoSuchBucket: "S3_NO_SUCH_BUCKET",
  NoSuchKey: "S3_NO_SUCH_KEY",
  NoSuchVersion: "S3_NO_SUCH_KEY",
  AccessDenied: "S3_ACCESS_DENIED",
  AllAccessDisabled: "S3_ACCESS_DENIED",
  InvalidAccessKeyId: "S3_ACCESS_DENIED",
  SignatureDoesNotMatch: "S3_ACCESS_DENIED",
  /** Archived, and not restored. */
  InvalidObjectState: "S3_INVALID_OBJECT",
  InvalidBucketName: "S3_NO_SUCH_BUCKET",
  KeyTooLongError: "S3_NO_SUCH_KEY",
};

function toBlobError(err: unknown, uri: string): BlobError {
  if (err instanceof BlobError) return err;
  if (err instanceof S3ServiceException) {
    const code = CODES[err.name] ?? fromStatus(err.$metadata.httpStatusCode);
    return new BlobError(code, `${uri}: ${err.name}: ${err.message}`, { cause: err });
  }
  const why = err instanceof Error ? err.name : "unknown error";
  return new BlobError("INTERNAL_PLATFORM_ERROR", `${uri}: the S3 service could not be reached: ${why}`, {
    cause: err,
  });
}

/** For services with codes of their own. */
function fromStatus(status: number | undefined): BlobError["code"] {
  if (status === 401 || status === 403) return "S3_ACCESS_DENIED";
  return status === 404 ? "S3_NO_SUCH_KEY" : "INTERNAL_PLATFORM_ERROR";
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)));
