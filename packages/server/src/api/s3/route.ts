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

type Routes = Readonly<Record<string, S3Operation>>;

/** `METHOD subresource`. */
const SERVICE: Routes = { "GET ": listBuckets };
const BUCKET: Routes = {
  "PUT ": createBucket,
  "HEAD ": headBucket,
  "DELETE ": deleteBucket,
  "GET location": getBucketLocation,
  "GET versioning": getBucketVersioning,
  "GET uploads": listMultipartUploads,
  "POST delete": deleteObjects,
  "GET ": (call) => (call.request.query.has("list-type") ? listObjectsV2(call) : listObjectsV1(call)),
};
const OBJECT: Routes = {
  "PUT ": (call) => (isCopy(call.request) ? copyObject(call) : putObject(call)),
  "GET ": getObject,
  "HEAD ": headObject,
  "DELETE ": deleteObject,
  "GET tagging": getObjectTagging,
  "POST uploads": createMultipartUpload,
  "PUT uploadId": (call) => (isCopy(call.request) ? uploadPartCopy(call) : uploadPart(call)),
  "POST uploadId": completeMultipartUpload,
  "DELETE uploadId": abortMultipartUpload,
  "GET uploadId": listParts,
};

/** @throws S3Error MethodNotAllowed, NotImplemented, NoSuchVersion */
export function routeOf(request: S3Request): S3Operation {
  const routes = request.key !== undefined ? OBJECT : request.bucket !== undefined ? BUCKET : SERVICE;
  const subresources = SUBRESOURCES.filter((name) => request.query.has(name));
  const operation = routes[`${request.method} ${subresources.join(",")}`];
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
