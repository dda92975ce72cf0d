import { readFile } from "node:fs/promises";
import { z } from "zod";
import { errnoOf } from "../../lib/errors.ts";
import { CHECKSUM_ALGORITHMS } from "../checksum.ts";

const pairs = z.array(z.tuple([z.string(), z.string()])).readonly();
const uploadFacts = z
  .object({
    uploadId: z.string(),
    key: z.string(),
    /** Milliseconds since the epoch. */
    initiated: z.number(),
    headers: pairs,
    userMetadata: pairs,
    /** What each part is given, and the object in the end. */
    checksumAlgorithm: z.enum(CHECKSUM_ALGORITHMS).optional(),
    checksumType: z.enum(["FULL_OBJECT", "COMPOSITE"]),
  })
  .readonly();
/** A multipart upload's `upload.json`. */
export type UploadFacts = z.infer<typeof uploadFacts>;

/** `undefined` when there is none. */
export async function readUploadFacts(path: string): Promise<UploadFacts | undefined> {
  try {
    return uploadFacts.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (err) {
    if (errnoOf(err) === "ENOENT" || errnoOf(err) === "ENOTDIR") return undefined;
    throw err;
  }
}
