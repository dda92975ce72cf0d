import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BlobError, type BlobSource } from "../../blobs/blob-store.ts";
import { BuildError } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import { errnoOf, invalidInput } from "../../lib/errors.ts";
import { pause } from "../../lib/pause.ts";

const ATTEMPTS = 3;
const RETRY_MS = 2000;

export interface ArtifactUri {
  readonly bucket: string;
  readonly key: string;
}

/** @throws TorporError with the service's wording when it is not `s3://<bucket>/<key>` */
export function parseArtifactUri(uri: string): ArtifactUri {
  const [, bucket, key] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\/(.+)$/s.exec(uri) ?? [];
  if (!bucket || !key) throw invalidInput("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>");
  return { bucket, key };
}

export interface FetchDeps {
  readonly blobs: BlobSource;
  /** Whose buckets may be read. */
  readonly accountId: string;
  readonly clock: Clock;
  readonly maxBytes: number;
}

/**
 * Downloads the artifact to a new file at `path`; a source that is not there now is asked again a few times.
 * @throws BuildError when the artifact is not to be had; the signal's reason
 */
export async function fetchArtifact(uri: string, path: string, deps: FetchDeps, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await download(parseArtifactUri(uri), path, deps, signal);
    } catch (err) {
      signal.throwIfAborted();
      if (errnoOf(err) === "ENOSPC")
        throw new BuildError("DISK_STORAGE_FULL", "There is no disk space for the code artifact.", { cause: err });
      if (!(err instanceof BlobError)) throw err;
      if (err.code !== "INTERNAL_PLATFORM_ERROR" || attempt === ATTEMPTS)
        throw new BuildError(err.code, err.message, { cause: err });
    }
    await pause(deps.clock, RETRY_MS * attempt, signal);
  }
}

async function download(
  { bucket, key }: ArtifactUri,
  path: string,
  { blobs, accountId, maxBytes }: FetchDeps,
  signal: AbortSignal,
): Promise<void> {
  const { size, body } = await blobs.open(accountId, bucket, key, signal);
  if (size > maxBytes) {
    body.destroy();
    throw tooLarge(maxBytes);
  }
  let received = 0;
  const counter = new Transform({
    transform(chunk: Uint8Array, _, done) {
      received += chunk.byteLength;
      if (received > maxBytes) done(tooLarge(maxBytes));
      else done(null, chunk);
    },
  });
  await rm(path, { force: true });
  await pipeline(body, counter, createWriteStream(path, { flags: "wx", mode: 0o600 }), { signal });
  if (received !== size)
    throw new BlobError("INTERNAL_PLATFORM_ERROR", `the object has ${size} bytes, of which ${received} came`);
}

const tooLarge = (maxBytes: number): BuildError =>
  new BuildError(
    "S3_INVALID_OBJECT",
    `The code artifact is larger than ${maxBytes} bytes, the largest that is accepted.`,
  );
