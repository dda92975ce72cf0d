import type { ListedObject, ListPage } from "../../../blobs/store/key-index.ts";
import { accountOf, bucketOf, integerOf, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { element, type Markup, rootElement, type XmlContent } from "../wire/xml-write.ts";

export const MAX_LISTED = 1000;

export async function listObjectsV2(call: S3Call): Promise<void> {
  const { query } = call.request;
  const token = query.get("continuation-token");
  const startAfter = query.get("start-after");
  const listing = await readListing(call, token === undefined ? startAfter : readToken(token));
  const { page, encode, common } = listing;
  call.reply.xml(
    200,
    rootElement("ListBucketResult", [
      ...common,
      element("KeyCount", page.objects.length + page.commonPrefixes.length),
      element("ContinuationToken", token),
      element("NextContinuationToken", page.truncated ? makeToken(page) : undefined),
      element("StartAfter", startAfter === undefined ? undefined : encode(startAfter)),
      rows(call, listing, query.get("fetch-owner") === "true"),
    ]),
  );
}

/** The first version of the operation, which some clients still use: markers instead of tokens. */
export async function listObjectsV1(call: S3Call): Promise<void> {
  const marker = call.request.query.get("marker");
  const listing = await readListing(call, marker);
  const { page, encode, common } = listing;
  call.reply.xml(
    200,
    rootElement("ListBucketResult", [
      ...common,
      element("Marker", encode(marker ?? "")),
      element("NextMarker", page.truncated && page.last !== undefined ? encode(page.last) : undefined),
      rows(call, listing, true),
    ]),
  );
}

interface Listing {
  readonly page: ListPage;
  readonly encode: (text: string) => string;
  readonly common: readonly Markup[];
}

async function readListing(call: S3Call, after: string | undefined): Promise<Listing> {
  const bucket = bucketOf(call);
  const { query } = call.request;
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter") ?? "";
  const encode = encoderOf(call);
  const asked = integerOf(call, "max-keys", { min: 0, max: 2 ** 31 - 1, fallback: MAX_LISTED });
  const max = Math.min(asked, MAX_LISTED);
  const page = await bucket.list({ prefix, delimiter, after: after ?? "", max });
  const common = [
    element("Name", bucket.facts.name),
    element("Prefix", encode(prefix)),
    element("Delimiter", delimiter === "" ? undefined : encode(delimiter)),
    element("MaxKeys", max),
    element("EncodingType", query.get("encoding-type")),
    element("IsTruncated", page.truncated),
  ];
  return { page, encode, common };
}

function rows(call: S3Call, { page, encode }: Listing, withOwner: boolean): XmlContent {
  const owner = withOwner ? element("Owner", element("ID", accountOf(call))) : undefined;
  const contents = (object: ListedObject): Markup =>
    element("Contents", [
      element("Key", encode(object.key)),
      element("LastModified", new Date(object.lastModified).toISOString()),
      element("ETag", `"${object.etag}"`),
      element("Size", object.size),
      element("StorageClass", "STANDARD"),
      owner,
    ]);
  return [
    page.objects.map(contents),
    page.commonPrefixes.map((prefix) => element("CommonPrefixes", element("Prefix", encode(prefix)))),
  ];
}

/** What `encoding-type` asks keys to be sent as. @throws S3Error InvalidArgument */
export function encoderOf(call: S3Call): (text: string) => string {
  const type = call.request.query.get("encoding-type");
  if (type === undefined) return (text) => text;
  if (type !== "url")
    throw new S3Error("InvalidArgument", {
      message: "Invalid Encoding Method specified in Request",
      details: { ArgumentName: "encoding-type", ArgumentValue: type },
    });
  return (text) => encodeURIComponent(text).replaceAll("%2F", "/");
}

function makeToken(page: ListPage): string {
  return Buffer.from(JSON.stringify({ after: page.last })).toString("base64url");
}

function readToken(token: string): string {
  try {
    const content: unknown = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
    if (typeof content === "object" && content !== null && "after" in content && typeof content.after === "string")
      return content.after;
  } catch {
    // not one of ours: refused below
  }
  throw new S3Error("InvalidArgument", {
    message: "The continuation token provided is incorrect",
    details: { ArgumentName: "continuation-token" },
  });
}
