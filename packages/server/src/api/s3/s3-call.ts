import type { IncomingMessage } from "node:http";
import type { FileStore } from "../../blobs/file-store.ts";
import type { Bucket } from "../../blobs/store/bucket.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Authenticated } from "../sigv4/sigv4.ts";
import type { Reply } from "./reply.ts";
import { S3Error } from "./s3-error.ts";
import type { S3Request } from "./s3-request.ts";

/** An authenticated request on its way through one operation. */
export interface S3Call {
  readonly incoming: IncomingMessage;
  readonly request: S3Request;
  readonly auth: Authenticated;
  readonly reply: Reply;
  readonly store: FileStore;
  readonly clock: Clock;
  readonly region: string;
  /** What an operation on many objects has changed, as ARNs; empty where it is what the request names. */
  readonly changed: string[];
}

export type S3Operation = (call: S3Call) => Promise<void>;

export function accountOf(call: S3Call): string {
  return call.auth.key.accountId;
}

/** The request's bucket, if it is there and the caller's. @throws S3Error, StoreError */
export function bucketOf(call: S3Call): Bucket {
  const name = call.request.bucket;
  if (name === undefined) throw new S3Error("InvalidURI");
  return ownBucket(call, name, "x-amz-expected-bucket-owner");
}

/** Any bucket of the caller. `ownerHeader` may say whose it is expected to be. */
export function ownBucket(call: S3Call, name: string, ownerHeader: string): Bucket {
  const bucket = call.store.bucket(name, accountOf(call));
  const expected = call.request.header(ownerHeader);
  if (expected !== undefined && expected !== bucket.facts.accountId) throw new S3Error("AccessDenied");
  return bucket;
}

/** The request's key; the router sends only requests with one to operations on objects. */
export function keyOf(call: S3Call): string {
  const key = call.request.key;
  if (key === undefined) throw new S3Error("InvalidURI");
  return key;
}

/** A parameter that is a whole number from `min` to `max`; `fallback` when it is absent. */
export function integerOf(call: S3Call, name: string, range: { min: number; max: number; fallback: number }): number {
  const text = call.request.query.get(name);
  if (text === undefined || text === "") return range.fallback;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= range.min && value <= range.max))
    throw new S3Error("InvalidArgument", {
      message: `${name} must be a whole number from ${range.min} to ${range.max}.`,
      details: { ArgumentName: name, ArgumentValue: text },
    });
  return value;
}
