import { authorise, type Caller, DeniedError } from "../../control/authorise.ts";
import { S3Error } from "./s3-error.ts";

/** Buckets and objects have no account in their ARNs: whose they are is for the store to say. */
export function s3Arn(bucket: string | undefined, key?: string): string {
  if (bucket === undefined) return "*";
  return `arn:aws:s3:::${bucket}${key === undefined ? "" : `/${key}`}`;
}

/** @throws S3Error AccessDenied in S3's words, which put the resource in quotes */
export function authoriseS3(action: string, resource: string, caller: Caller): void {
  try {
    authorise(action, resource, caller);
  } catch (err) {
    if (!(err instanceof DeniedError)) throw err;
    const message = err.message.replace(`on resource: ${resource} `, () => `on resource: "${resource}" `);
    throw new S3Error("AccessDenied", { message, cause: err });
  }
}
