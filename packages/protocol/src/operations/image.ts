import { anything, arnIn, newImageNamed } from "../permission.ts";
import {
  idempotencyToken,
  operation,
  optional,
  path,
  query,
  required,
  string,
  structure,
  timestamp,
} from "../shape.ts";
import { imageConfiguration, imageName, microvmImageState } from "./image-shapes.ts";
import {
  BUILD_ERRORS,
  CHANGE_ERRORS,
  LIST_ERRORS,
  microvmImageIdentifier,
  nonBlankString,
  pageOf,
  pageRequest,
  READ_ERRORS,
  tags,
} from "./shapes.ts";

const image = {
  imageArn: required(nonBlankString),
  name: required(imageName),
  state: required(microvmImageState),
  createdAt: required(timestamp()),
  latestActiveImageVersion: optional(nonBlankString),
  latestFailedImageVersion: optional(nonBlankString),
};

export const IMAGE_OPERATIONS = {
  CreateMicrovmImage: operation({
    method: "POST",
    uri: "/2025-09-09/microvm-images",
    status: 201,
    permission: {
      on: newImageNamed("name"),
      passesRole: "buildRoleArn",
      passesConnectors: { egressNetworkConnectors: "INTERNET_EGRESS" },
    },
    input: {
      ...imageConfiguration,
      name: required(imageName),
      tags: optional(tags),
      clientToken: idempotencyToken(string({ min: 1, max: 128 })),
    },
    output: {
      ...imageConfiguration,
      imageArn: required(nonBlankString),
      name: required(imageName),
      state: required(microvmImageState),
      createdAt: required(timestamp()),
      imageVersion: required(nonBlankString),
      latestActiveImageVersion: optional(nonBlankString),
      latestFailedImageVersion: optional(nonBlankString),
      tags: optional(tags),
      updatedAt: optional(timestamp()),
    },
    errors: BUILD_ERRORS,
  }),
  GetMicrovmImage: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: { imageIdentifier: path(microvmImageIdentifier) },
    output: {
      ...image,
      tags: optional(tags),
      updatedAt: optional(timestamp()),
    },
    errors: READ_ERRORS,
  }),
  ListMicrovmImages: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images",
    status: 200,
    permission: { on: anything },
    input: {
      ...pageRequest,
      nameFilter: query(nonBlankString),
    },
    output: pageOf(structure(image)),
    errors: LIST_ERRORS,
  }),
  UpdateMicrovmImage: operation({
    method: "PUT",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}",
    status: 200,
    permission: {
      on: arnIn("imageIdentifier"),
      passesRole: "buildRoleArn",
      passesConnectors: { egressNetworkConnectors: "INTERNET_EGRESS" },
    },
    input: {
      ...imageConfiguration,
      imageIdentifier: path(microvmImageIdentifier),
      clientToken: idempotencyToken(string({ min: 1, max: 128 })),
    },
    output: {
      ...imageConfiguration,
      imageArn: required(nonBlankString),
      name: required(imageName),
      state: required(microvmImageState),
      createdAt: required(timestamp()),
      updatedAt: required(timestamp()),
      imageVersion: required(nonBlankString),
      latestActiveImageVersion: optional(nonBlankString),
      latestFailedImageVersion: optional(nonBlankString),
    },
    errors: BUILD_ERRORS,
  }),
  DeleteMicrovmImage: operation({
    method: "DELETE",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: { imageIdentifier: path(microvmImageIdentifier) },
    output: { imageIdentifier: required(microvmImageIdentifier), state: required(microvmImageState) },
    errors: CHANGE_ERRORS,
  }),
} as const;
