import { S3Error } from "./s3-error.ts";

/** Both ends included. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

/**
 * The bytes that a Range header asks for. `undefined` when there is none, or one that S3 does not know (another unit,
 * several ranges): then the whole object is the answer.
 * @throws S3Error InvalidRange
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  const m = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? "");
  if (!m || (m[1] === "" && m[2] === "")) return undefined;
  const [from, to] = [m[1]!, m[2]!];
  if (from !== "" && to !== "" && Number(from) > Number(to)) return undefined;
  const range =
    from === ""
      ? { first: Math.max(0, size - Number(to)), last: size - 1 }
      : { first: Number(from), last: Math.min(size - 1, to === "" ? size - 1 : Number(to)) };
  if (range.first >= size)
    throw new S3Error("InvalidRange", { details: { RangeRequested: header ?? "", ActualObjectSize: String(size) } });
  return range;
}
