import { readFile } from "node:fs/promises";
import { z } from "zod";

const bucketFacts = z
  .object({
    name: z.string(),
    accountId: z.string(),
    /** Milliseconds since the epoch. */
    createdAt: z.number(),
  })
  .readonly();
/** A bucket's `bucket.json`. */
export type BucketFacts = z.infer<typeof bucketFacts>;

export async function readBucketFacts(path: string): Promise<BucketFacts> {
  return bucketFacts.parse(JSON.parse(await readFile(path, "utf8")));
}
