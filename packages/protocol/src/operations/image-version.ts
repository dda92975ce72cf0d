import { arnIn } from "../permission.ts";
import { operation, optional, path, query, required, structure } from "../shape.ts";
import {
  architecture,
  chipset,
  imageBuild,
  imageVersion,
  microvmImageVersionState,
  microvmImageVersionStatus,
  snapshotBuild,
} from "./image-shapes.ts";
import { CHANGE_ERRORS, microvmImageIdentifier, nonBlankString, pageOf, pageRequest, READ_ERRORS } from "./shapes.ts";

export const IMAGE_VERSION_OPERATIONS = {
  GetMicrovmImageVersion: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: { imageIdentifier: path(microvmImageIdentifier), imageVersion: path(nonBlankString) },
    output: imageVersion,
    errors: READ_ERRORS,
  }),
  ListMicrovmImageVersions: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      ...pageRequest,
    },
    output: pageOf(structure(imageVersion)),
    errors: READ_ERRORS,
  }),
  UpdateMicrovmImageVersion: operation({
    method: "PATCH",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      imageVersion: path(nonBlankString),
      status: required(microvmImageVersionStatus),
    },
    output: imageVersion,
    errors: CHANGE_ERRORS,
  }),
  DeleteMicrovmImageVersion: operation({
    method: "DELETE",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: { imageIdentifier: path(microvmImageIdentifier), imageVersion: path(nonBlankString) },
    output: {
      imageIdentifier: required(microvmImageIdentifier),
      imageVersion: required(nonBlankString),
      state: required(microvmImageVersionState),
    },
    errors: CHANGE_ERRORS,
  }),
  ListMicrovmImageBuilds: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      imageVersion: path(nonBlankString),
      ...pageRequest,
      architecture: query(architecture),
      chipset: query(chipset),
      chipsetGeneration: query(nonBlankString),
    },
    output: pageOf(structure(imageBuild)),
    errors: READ_ERRORS,
  }),
  GetMicrovmImageBuild: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds/{buildId}",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      imageVersion: path(nonBlankString),
      buildId: path(nonBlankString),
    },
    output: {
      ...imageBuild,
      snapshotBuild: optional(snapshotBuild),
    },
    errors: READ_ERRORS,
  }),
} as const;
