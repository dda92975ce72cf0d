import type { ObjectMeta } from "../../blobs/store/object-file.ts";
import type { S3Call } from "./s3-call.ts";
import { S3Error } from "./s3-error.ts";

/** RFC 9110 §13.2.2: the order in which the four conditions are looked at. @throws S3Error 412 */
export function readCondition(call: S3Call, meta: ObjectMeta): "modified" | "not_modified" {
  return checkConditions(meta, (name) => call.request.header(name)) === undefined ? "modified" : "not_modified";
}

/** The conditions on the source of a copy. @throws S3Error 412 */
export function requireCopyConditions(call: S3Call, meta: ObjectMeta): void {
  const notModified = checkConditions(meta, (name) => call.request.header(`x-amz-copy-source-${name}`));
  if (notModified !== undefined) throw failed(notModified);
}

/** `If-None-Match: *` and `If-Match: <etag>` of a write. @throws S3Error 412, 404, NotImplemented */
export function writePrecondition(call: S3Call): (current: ObjectMeta | undefined) => void {
  const none = call.request.header("if-none-match");
  const match = call.request.header("if-match");
  if (none !== undefined && none !== "*") throw new S3Error("NotImplemented", { details: { Header: "If-None-Match" } });
  return (current) => {
    if (none !== undefined && current) throw failed("If-None-Match");
    if (match === undefined) return;
    if (!current) throw new S3Error("NoSuchKey");
    if (!matches(match, current.etag)) throw failed("If-Match");
  };
}

/** The condition by which the caller has this object already. @throws S3Error 412 by the other two */
function checkConditions(meta: ObjectMeta, header: (name: string) => string | undefined): string | undefined {
  // HTTP dates have whole seconds.
  const modified = Math.floor(meta.lastModified / 1000) * 1000;
  const [match, none] = [header("if-match"), header("if-none-match")];
  if (match !== undefined) {
    if (!matches(match, meta.etag)) throw failed("If-Match");
  } else if (modified > dateOf(header("if-unmodified-since"), Number.POSITIVE_INFINITY)) {
    throw failed("If-Unmodified-Since");
  }
  if (none !== undefined) return matches(none, meta.etag) ? "If-None-Match" : undefined;
  return modified <= dateOf(header("if-modified-since"), Number.NEGATIVE_INFINITY) ? "If-Modified-Since" : undefined;
}

function matches(list: string, etag: string): boolean {
  return list.split(",").some((item) => {
    const wanted = item
      .trim()
      .replace(/^W\//, "")
      .replace(/^"(.*)"$/, "$1");
    return wanted === "*" || wanted === etag;
  });
}

/** Dates that cannot be read are as if they were not there. */
function dateOf(text: string | undefined, otherwise: number): number {
  const ms = text === undefined ? Number.NaN : Date.parse(text);
  return Number.isNaN(ms) ? otherwise : ms;
}

const failed = (condition: string): S3Error => new S3Error("PreconditionFailed", { details: { Condition: condition } });
