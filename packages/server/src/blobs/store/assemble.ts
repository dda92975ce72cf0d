import { createHash } from "node:crypto";
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm, type Checksums, createChecksum } from "../checksum.ts";
import { type ObjectMeta, openObject, readObjectMeta } from "./object-file.ts";
import type { Staged, Staging } from "./staging.ts";
import { StoreError } from "./store-error.ts";
import type { UploadFacts } from "./upload-facts.ts";

/** A part as the completing client names it. */
export interface CompletedPart {
  readonly partNumber: number;
  /** Without quotes. */
  readonly etag: string;
  readonly checksums: Checksums;
}

/** What the completing client says of the whole; checked where it is given. */
export interface WholeObjectClaims {
  readonly size?: number;
  readonly checksums: Checksums;
}

/** Every part but the last has at least this many bytes. */
const MIN_PART_BYTES = 5 * 2 ** 20;

/** Checks the parts and copies them, in order, into one staged object. @throws StoreError */
export async function assemble(
  upload: UploadFacts,
  wanted: readonly CompletedPart[],
  claims: WholeObjectClaims,
  pathOf: (partNumber: number) => string,
  staging: Staging,
  now: number,
): Promise<Staged> {
  requireOrder(wanted);
  const parts: ObjectMeta[] = [];
  for (const part of wanted) parts.push(checkPart(part, await readObjectMeta(pathOf(part.partNumber))));
  if (parts.slice(0, -1).some((part) => part.size < MIN_PART_BYTES))
    throw new StoreError("part_too_small", `Each part but the last has at least ${MIN_PART_BYTES} bytes.`);
  const size = parts.reduce((sum, part) => sum + part.size, 0);
  if (claims.size !== undefined && claims.size !== size)
    throw new StoreError("mismatch", `The parts are ${size} bytes, not ${claims.size}.`);

  const algorithm = upload.checksumAlgorithm;
  const digest = algorithm && upload.checksumType === "FULL_OBJECT" ? [algorithm] : [];
  const body = concatenate(wanted.map((part, i) => [pathOf(part.partNumber), parts[i]!.etag]));
  return await staging.receive({ body, size, digest }, (received) => {
    const checksums = wholeChecksums(upload, parts, received.digests);
    requireClaims(claims.checksums, checksums);
    return {
      key: upload.key,
      size: received.size,
      etag: `${md5(Buffer.concat(parts.map((part) => Buffer.from(part.etag, "hex"))))}-${parts.length}`,
      lastModified: now,
      headers: upload.headers,
      userMetadata: upload.userMetadata,
      checksums,
      checksumType: upload.checksumType,
      uploadId: upload.uploadId,
    };
  });
}

function requireOrder(parts: readonly CompletedPart[]): void {
  if (parts.length === 0) throw new StoreError("invalid_part", "An object is made of at least one part.");
  for (let i = 1; i < parts.length; i++)
    if (parts[i]!.partNumber <= parts[i - 1]!.partNumber)
      throw new StoreError("invalid_part_order", "The parts are not in ascending order of their numbers.");
}

function checkPart(part: CompletedPart, stored: ObjectMeta | undefined): ObjectMeta {
  const mine = CHECKSUM_ALGORITHMS.filter((algorithm) => stored?.checksums[algorithm] !== undefined);
  if (
    stored?.etag !== part.etag ||
    mine.some((a) => part.checksums[a] !== undefined && part.checksums[a] !== stored.checksums[a])
  )
    throw new StoreError("invalid_part", `Part ${part.partNumber} is not there, or not as its ETag or checksum says.`);
  return stored;
}

async function* concatenate(parts: Iterable<readonly [path: string, etag: string]>): AsyncGenerator<Uint8Array> {
  for (const [path, etag] of parts) {
    const object = await openObject(path);
    if (object?.meta.etag !== etag) {
      await object?.[Symbol.asyncDispose]();
      throw new StoreError("invalid_part", "A part was replaced or removed while the upload was completed.");
    }
    yield* object.stream();
  }
}

function wholeChecksums(
  upload: UploadFacts,
  parts: readonly ObjectMeta[],
  digests: ReadonlyMap<ChecksumAlgorithm, Buffer>,
): Checksums {
  const algorithm = upload.checksumAlgorithm;
  if (!algorithm) return {};
  if (upload.checksumType === "FULL_OBJECT") return { [algorithm]: digests.get(algorithm)!.toString("base64") };
  const ofParts = createChecksum(algorithm);
  for (const part of parts) ofParts.update(Buffer.from(part.checksums[algorithm] ?? "", "base64"));
  return { [algorithm]: `${ofParts.digest().toString("base64")}-${parts.length}` };
}

function requireClaims(claimed: Checksums, actual: Checksums): void {
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const claim = claimed[algorithm];
    // Clients send a composite one with or without its number of parts.
    if (claim !== undefined && claim !== actual[algorithm] && claim !== actual[algorithm]?.replace(/-\d+$/, ""))
      throw new StoreError("mismatch", `The ${algorithm} of the object is not the one that was given.`);
  }
}

const md5 = (data: Uint8Array): string => createHash("md5").update(data).digest("hex");
