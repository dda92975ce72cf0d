import { readSmallBody } from "../body.ts";
import { refuseUnknownWishes } from "../object-headers.ts";
import { accountOf, bucketOf, type S3Call } from "../s3-call.ts";
import { S3Error } from "../s3-error.ts";
import { child, malformed, parseXml } from "../wire/xml-read.ts";
import { element, rootElement } from "../wire/xml-write.ts";

const MAX_CONFIGURATION_BYTES = 64 * 1024;

export async function listBuckets(call: S3Call): Promise<void> {
  const account = accountOf(call);
  const prefix = call.request.query.get("prefix") ?? "";
  const buckets = call.store.listBuckets(account).filter((facts) => facts.name.startsWith(prefix));
  const rows = buckets.map((facts) =>
    element("Bucket", [
      element("Name", facts.name),
      element("CreationDate", new Date(facts.createdAt).toISOString()),
      element("BucketRegion", call.region),
    ]),
  );
  const owner = element("Owner", element("ID", account));
  call.reply.xml(200, rootElement("ListAllMyBucketsResult", [owner, element("Buckets", rows)]));
}

export async function createBucket(call: S3Call): Promise<void> {
  const name = call.request.bucket ?? "";
  refuseUnknownWishes(call);
  requireOwnRegion(call, await readSmallBody(call, MAX_CONFIGURATION_BYTES));
  await call.store.createBucket(name, accountOf(call));
  call.reply.empty(200, { Location: `/${name}`, "Content-Length": 0 });
}

export async function headBucket(call: S3Call): Promise<void> {
  bucketOf(call);
  call.reply.empty(200, { "x-amz-bucket-region": call.region, "Content-Type": "application/xml" });
}

export async function deleteBucket(call: S3Call): Promise<void> {
  const { name } = bucketOf(call).facts;
  await call.store.deleteBucket(name, accountOf(call));
  call.reply.empty(204);
}

/** The oldest region is told as no region. */
export async function getBucketLocation(call: S3Call): Promise<void> {
  bucketOf(call);
  call.reply.xml(200, rootElement("LocationConstraint", call.region === "us-east-1" ? "" : call.region));
}

/** There are no versions: what S3 says of a bucket in which they were never turned on. */
export async function getBucketVersioning(call: S3Call): Promise<void> {
  bucketOf(call);
  call.reply.xml(200, rootElement("VersioningConfiguration", ""));
}

function requireOwnRegion(call: S3Call, body: Buffer): void {
  if (body.length === 0) return;
  const configuration = parseXml(body);
  if (configuration.name !== "CreateBucketConfiguration") throw malformed();
  const wanted = child(configuration, "LocationConstraint")?.text.trim() ?? "";
  if (wanted !== "" && wanted !== call.region) throw new S3Error("IllegalLocationConstraintException");
}
