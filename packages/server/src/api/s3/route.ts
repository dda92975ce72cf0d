import {
  createBucket,
  deleteBucket,
  getBucketLocation,
  getBucketVersioning,
  headBucket,
  listBuckets,
} from "./operations/buckets.ts";
import { copyObject } from "./operations/copy-object.ts";
import { deleteObjects } from "./operations/delete-objects.ts";
import { listObjectsV1, listObjectsV2 } from "./operations/list-objects.ts";
import { listMultipartUploads, listParts } from "./operations/list-uploads.ts";
import {
  abortMultipartUpload,
  completeMultipartUpload,
  createMultipartUpload,
  uploadPart,
  uploadPartCopy,
} from "./operations/multipart.ts";
import { deleteObject, getObject, getObjectTagging, headObject, putObject } from "./operations/objects.ts";
import type { S3Operation } from "./s3-call.ts";
import { S3Error } from "./s3-error.ts";
import type { S3Request } from "./s3-request.ts";

/** Parameters that make another operation of a request. One that has no route is refused, never left unread. */
const SUBRESOURCES = [
  ...["accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "intelligent-tiering"],
  ...["inventory", "legal-hold", "lifecycle", "location", "logging", "metadataConfiguration", "metadataTable"],
  ...["metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock"],
  ...["renameObject", "replication", "requestPayment", "restore", "retention", "select", "session", "tagging"],
  ...["torrent", "uploadId", "uploads", "versioning", "versions", "website", "append"],
];

/** What a request is, and what its caller needs permission for. */
export interface S3Route {
  /** As S3 names the operation. */
  readonly name: string;
  /** As IAM does; several operations may have the same. Further ones are checked where they are needed. */
  readonly action: string;
  readonly run: S3Operation;
}
type Routes = Readonly<Record<string, S3Route>>;

const route = (name: string, run: S3Operation, action = name): S3Route => ({ name, action: `s3:${action}`, run });

/** `METHOD subresource`. */
const SERVICE: Routes = { "GET ": route("ListBuckets", listBuckets, "ListAllMyBuckets") };
const BUCKET: Routes = {
  "PUT ": route("CreateBucket", createBucket),
  "HEAD ": route("HeadBucket", headBucket, "ListBucket"),
  "DELETE ": route("DeleteBucket", deleteBucket),
  "GET location": route("GetBucketLocation", getBucketLocation),
  "GET versioning": route("GetBucketVersioning", getBucketVersioning),
  "GET uploads": route("ListMultipartUploads", listMultipartUploads, "ListBucketMultipartUploads"),
  /** Asked for each of the keys. */
  "POST delete": route("DeleteObjects", deleteObjects, "DeleteObject"),
  "GET ": route(
    "ListObjects",
    (call) => (call.request.query.has("list-type") ? listObjectsV2(call) : listObjectsV1(call)),
    "ListBucket",
  ),
};
const OBJECT: Routes = {
  "PUT ": route("PutObject", putObject),
  "GET ": route("GetObject", getObject),
  "HEAD ": route("HeadObject", headObject, "GetObject"),
  "DELETE ": route("DeleteObject", deleteObject),
  "GET tagging": route("GetObjectTagging", getObjectTagging),
  "POST uploads": route("CreateMultipartUpload", createMultipartUpload, "PutObject"),
  "PUT uploadId": route("UploadPart", uploadPart, "PutObject"),
  "POST uploadId": route("CompleteMultipartUpload", completeMultipartUpload, "PutObject"),
  "DELETE uploadId": route("AbortMultipartUpload", abortMultipartUpload),
  "GET uploadId": route("ListParts", listParts, "ListMultipartUploadParts"),
};
/** The same requests with `x-amz-copy-source`; the source needs `s3:GetObject`. */
const COPY: Routes = {
  "PUT ": route("CopyObject", copyObject, "PutObject"),
  "PUT uploadId": route("UploadPartCopy", uploadPartCopy, "PutObject"),
};

export const S3_ROUTES: readonly S3Route[] = [SERVICE, BUCKET, OBJECT, COPY].flatMap((routes) => Object.values(routes));

/** @throws S3Error MethodNotAllowed, NotImplemented, NoSuchVersion */
export function routeOf(request: S3Request): S3Route {
  const routes = request.key !== undefined ? OBJECT : request.bucket !== undefined ? BUCKET : SERVICE;
  const subresources = SUBRESOURCES.filter((name) => request.query.has(name));
  const wanted = `${request.method} ${subresources.join(",")}`;
  const operation = (isCopy(request) && routes === OBJECT ? COPY[wanted] : undefined) ?? routes[wanted];
  if (!operation && subresources.length > 0)
    throw new S3Error("NotImplemented", { details: { Parameter: subresources.join(",") } });
  if (!operation) throw new S3Error("MethodNotAllowed", { details: { Method: request.method } });
  const listType = request.query.get("list-type");
  if (listType !== undefined && listType !== "2")
    throw new S3Error("InvalidArgument", { details: { ArgumentName: "list-type", ArgumentValue: listType } });
  // Without versions an object has one, and its name is "null".
  if ((request.query.get("versionId") ?? "null") !== "null") throw new S3Error("NoSuchVersion");
  return operation;
}

const isCopy = (request: S3Request): boolean => request.header("x-amz-copy-source") !== undefined;
