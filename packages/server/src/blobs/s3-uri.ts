import { isBucketName, isObjectKey } from "./names.ts";

export interface S3Uri {
  readonly bucket: string;
  readonly key: string;
}

/** `s3://<bucket>/<key>`; the key is taken literally, nothing in it is decoded. `undefined` for anything else. */
export function parseS3Uri(uri: string): S3Uri | undefined {
  const m = /^s3:\/\/([^/]+)\/(.+)$/s.exec(uri);
  if (!m) return undefined;
  const [bucket, key] = [m[1]!, m[2]!];
  return isBucketName(bucket) && isObjectKey(key) ? { bucket, key } : undefined;
}
