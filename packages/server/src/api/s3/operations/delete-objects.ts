import { isObjectKey } from "../../../blobs/names.ts";
import { readSmallBody } from "../body.ts";
import { authoriseS3, s3Arn } from "../permission.ts";
import { bucketOf, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { child, children, malformed, parseXml, type XmlElement } from "../wire/xml-read.ts";
import { element, rootElement } from "../wire/xml-write.ts";

/** A thousand keys of 1024 bytes, and their tags. */
const MAX_BODY_BYTES = 2 * 2 ** 20;
const MAX_KEYS = 1000;

export async function deleteObjects(call: S3Call): Promise<void> {
  const bucket = bucketOf(call);
  const { wanted: asked, quiet } = parseDelete(await readSmallBody(call, MAX_BODY_BYTES));
  const wanted = asked.map((item) => (item.refusal ? item : permitted(item, call)));
  const fine = wanted.filter((item) => item.refusal === undefined);
  await bucket.delete(fine.map((item) => item.key));
  call.changed.push(...fine.map((item) => s3Arn(bucket.facts.name, item.key)));
  const rows = wanted.map(({ key, refusal }) => {
    if (refusal)
      return element("Error", [element("Key", key), element("Code", refusal[0]), element("Message", refusal[1])]);
    return quiet ? undefined : element("Deleted", element("Key", key));
  });
  call.reply.xml(200, rootElement("DeleteResult", rows));
}

/** The item, refused when the caller may not delete it. */
function permitted(item: Wanted, call: S3Call): Wanted {
  try {
    authoriseS3("s3:DeleteObject", s3Arn(call.request.bucket, item.key), call.auth.key);
    return item;
  } catch (err) {
    if (!(err instanceof S3Error)) throw err;
    return { key: item.key, refusal: [err.code, err.message] };
  }
}

interface Wanted {
  readonly key: string;
  readonly refusal?: readonly [code: string, message: string];
}

function parseDelete(body: Buffer): { wanted: Wanted[]; quiet: boolean } {
  const root = parseXml(body);
  const objects = children(root, "Object");
  if (root.name !== "Delete" || objects.length === 0 || objects.length > MAX_KEYS) throw malformed();
  return { wanted: objects.map(parseObject), quiet: child(root, "Quiet")?.text.trim() === "true" };
}

function parseObject(object: XmlElement): Wanted {
  const key = child(object, "Key")?.text;
  if (key === undefined || key === "") throw malformed();
  const version = child(object, "VersionId")?.text ?? "null";
  if (version !== "null") return { key, refusal: ["NoSuchVersion", "The specified version does not exist."] };
  if (!isObjectKey(key)) return { key, refusal: ["InvalidArgument", "The key is not valid."] };
  const condition = ["ETag", "LastModifiedTime", "Size"].find((name) => child(object, name));
  if (condition) return { key, refusal: ["NotImplemented", `Deleting by ${condition} is not implemented.`] };
  return { key };
}
