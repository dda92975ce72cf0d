/** Shapes of images, their versions and builds. */
import { enumeration, integer, list, map, optional, required, string, structure, timestamp, union } from "../shape.ts";
import { logging, nonBlankString, roleArn, tags, version } from "./shapes.ts";

const codeArtifact = union({ uri: optional(nonBlankString) });
export const imageName = string({ min: 1, max: 64, pattern: "[a-zA-Z0-9-_]+" });
/** X86_64 is our extension: AWS has ARM_64 only. */
export const architecture = enumeration(["ARM_64", "X86_64"]);
const cpuConfiguration = structure({ architecture: required(architecture) });
const resources = structure({ minimumMemoryInMiB: required(integer()) });
const resourcesList = list(resources, { min: 0, max: 1 });
const capabilityList = list(enumeration(["ALL"]));
const hookState = enumeration(["DISABLED", "ENABLED"]);
const microvmHooks = structure({
  run: optional(hookState),
  runTimeoutInSeconds: optional(integer({ min: 1, max: 60 })),
  resume: optional(hookState),
  resumeTimeoutInSeconds: optional(integer({ min: 1, max: 60 })),
  suspend: optional(hookState),
  suspendTimeoutInSeconds: optional(integer({ min: 1, max: 60 })),
  terminate: optional(hookState),
  terminateTimeoutInSeconds: optional(integer({ min: 1, max: 60 })),
});
const microvmImageHooks = structure({
  ready: optional(hookState),
  readyTimeoutInSeconds: optional(integer({ min: 1, max: 3600 })),
  validate: optional(hookState),
  validateTimeoutInSeconds: optional(integer({ min: 1, max: 3600 })),
});
const hooks = structure({
  port: optional(integer({ min: 1, max: 65535 })),
  microvmHooks: optional(microvmHooks),
  microvmImageHooks: optional(microvmImageHooks),
});
const environmentVariableMap = map(
  string({ min: 1, max: 256, pattern: "[^\\s]+" }),
  string({ min: 0, max: 4096, sensitive: true }),
  { min: 0, max: 50 },
);
/** What a version is built from: the same members, of the same meaning, wherever a configuration is given or told. */
export const imageConfiguration = {
  baseImageArn: required(nonBlankString),
  buildRoleArn: required(roleArn),
  codeArtifact: required(codeArtifact),
  baseImageVersion: optional(version),
  description: optional(string()),
  logging: optional(logging),
  egressNetworkConnectors: optional(list(string({ min: 1, max: 2048 }), { min: 0, max: 1 })),
  cpuConfigurations: optional(list(cpuConfiguration)),
  resources: optional(resourcesList),
  additionalOsCapabilities: optional(capabilityList),
  hooks: optional(hooks),
  environmentVariables: optional(environmentVariableMap),
};
export const microvmImageState = enumeration([
  "CREATING",
  "CREATED",
  "CREATE_FAILED",
  "UPDATING",
  "UPDATED",
  "UPDATE_FAILED",
  "DELETING",
  "DELETE_FAILED",
  "DELETED",
]);
export const microvmImageVersionState = enumeration([
  "PENDING",
  "IN_PROGRESS",
  "SUCCESSFUL",
  "FAILED",
  "DELETING",
  "DELETED",
  "DELETE_FAILED",
]);
export const microvmImageVersionStatus = enumeration(["ACTIVE", "INACTIVE"]);
/** What is told of a version, by itself and in a list. */
export const imageVersion = {
  ...imageConfiguration,
  imageArn: required(nonBlankString),
  imageVersion: required(nonBlankString),
  state: required(microvmImageVersionState),
  status: required(microvmImageVersionStatus),
  createdAt: required(timestamp()),
  updatedAt: optional(timestamp()),
  stateReason: optional(string()),
  tags: optional(tags),
};
/** GENERIC is our extension: what AWS names are its own processors. */
export const chipset = enumeration(["GRAVITON", "GENERIC"]);
export const buildState = enumeration(["PENDING", "IN_PROGRESS", "SUCCESSFUL", "FAILED"]);
/** What is told of a build in a list. */
export const imageBuild = {
  imageArn: required(nonBlankString),
  imageVersion: required(nonBlankString),
  buildId: required(nonBlankString),
  buildState: required(buildState),
  architecture: required(architecture),
  chipset: required(chipset),
  chipsetGeneration: required(nonBlankString),
  createdAt: required(timestamp()),
  stateReason: optional(string()),
};
export const snapshotBuild = structure({
  memorySnapshotSizeInBytes: optional(integer()),
  codeInstallSizeInBytes: optional(integer()),
  diskSnapshotSizeInBytes: optional(integer()),
});
