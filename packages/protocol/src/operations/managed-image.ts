import {
  enumeration,
  integer,
  list,
  operation,
  optional,
  path,
  query,
  required,
  string,
  structure,
  timestamp,
} from "../shape.ts";
import { microvmImageIdentifier, nonBlankString } from "./shapes.ts";

const managedMicrovmImageSummary = structure({
  imageArn: required(nonBlankString),
  createdAt: required(timestamp()),
  updatedAt: optional(timestamp()),
});
const managedMicrovmImageVersion = structure({
  imageArn: required(nonBlankString),
  imageVersion: required(nonBlankString),
  createdAt: required(timestamp()),
  status: optional(enumeration(["AVAILABLE", "DEPRECATED"])),
  updatedAt: optional(timestamp()),
});

/** The base images that are the service's own. */
export const MANAGED_IMAGE_OPERATIONS = {
  ListManagedMicrovmImages: operation({
    method: "GET",
    uri: "/2025-09-09/managed-microvm-images",
    status: 200,
    input: { maxResults: query(integer({ min: 1, max: 50 })), nextToken: query(string()) },
    output: { items: required(list(managedMicrovmImageSummary)), nextToken: optional(string()) },
    errors: ["AccessDeniedException", "InternalServerException", "ThrottlingException", "ValidationException"],
  }),
  ListManagedMicrovmImageVersions: operation({
    method: "GET",
    uri: "/2025-09-09/managed-microvm-images/{imageIdentifier}/versions",
    status: 200,
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      maxResults: query(integer({ min: 1, max: 50 })),
      nextToken: query(string()),
    },
    output: { items: required(list(managedMicrovmImageVersion)), nextToken: optional(string()) },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
} as const;
