import { anything, arnIn } from "../permission.ts";
import { enumeration, operation, optional, path, required, structure, timestamp } from "../shape.ts";
import { LIST_ERRORS, microvmImageIdentifier, nonBlankString, pageOf, pageRequest, READ_ERRORS } from "./shapes.ts";

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
    permission: { on: anything },
    input: { ...pageRequest },
    output: pageOf(managedMicrovmImageSummary),
    errors: LIST_ERRORS,
  }),
  ListManagedMicrovmImageVersions: operation({
    method: "GET",
    uri: "/2025-09-09/managed-microvm-images/{imageIdentifier}/versions",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      ...pageRequest,
    },
    output: pageOf(managedMicrovmImageVersion),
    errors: READ_ERRORS,
  }),
} as const;
