import { arnIn } from "../permission.ts";
import { list, operation, optional, path, required, requiredQuery, string } from "../shape.ts";
import { tagKey, tags } from "./shapes.ts";

/** Of all of Lambda; here, images and network connectors exist. */
const taggableResource = string({
  min: 1,
  max: 10_000,
  pattern:
    "arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:(function:[a-zA-Z0-9-_]+(:(\\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector|microvm-image):[a-zA-Z0-9-_]+)",
});
const uri = "/2017-03-31/tags/{Resource}";
/** Lambda's own error names, which are older than those of microvms, and these. */
const READ_ERRORS = [
  "InvalidParameterValueException",
  "ResourceNotFoundException",
  "ServiceException",
  "TooManyRequestsException",
  "AccessDeniedException",
  "InternalServerException",
  "ThrottlingException",
  "ValidationException",
] as const;
const CHANGE_ERRORS = [...READ_ERRORS, "ResourceConflictException"] as const;

export const TAG_OPERATIONS = {
  TagResource: operation({
    method: "POST",
    uri,
    status: 204,
    permission: { on: arnIn("Resource") },
    input: { Resource: path(taggableResource), Tags: required(tags) },
    output: {},
    errors: CHANGE_ERRORS,
  }),
  UntagResource: operation({
    method: "DELETE",
    uri,
    status: 204,
    permission: { on: arnIn("Resource") },
    input: { Resource: path(taggableResource), TagKeys: requiredQuery("tagKeys", list(tagKey)) },
    output: {},
    errors: CHANGE_ERRORS,
  }),
  ListTags: operation({
    method: "GET",
    uri,
    status: 200,
    permission: { on: arnIn("Resource") },
    input: { Resource: path(taggableResource) },
    output: { Tags: optional(tags) },
    errors: READ_ERRORS,
  }),
} as const;
