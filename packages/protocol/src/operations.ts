/**
 * The AWS operations that Torpor answers, as data: routing, validation and serialisation are derived from this table
 * and so are the types of the handlers. An operation joins the service by joining this table.
 *
 * Source of names and constraints: the service model of Lambda MicroVMs, API version 2025-09-09.
 */
import {
  boolean,
  enumeration,
  type Input,
  idempotencyToken,
  integer,
  list,
  map,
  type Output,
  operation,
  optional,
  path,
  query,
  required,
  string,
  structure,
  timestamp,
  union,
} from "./shape.ts";

const nonBlankString = string({ min: 1, max: 2048, pattern: "[^\\s]+" });
const roleArn = string({
  min: 20,
  max: 2048,
  pattern: "arn:aws[a-z\\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
});
const codeArtifact = union({ uri: optional(nonBlankString) });
const imageName = string({ min: 1, max: 64, pattern: "[a-zA-Z0-9-_]+" });
const version = string({ min: 1, max: 2048, pattern: "[^\\s]+" });
const loggingDisabled = structure({});
const cloudWatchLogging = structure({
  logGroup: optional(string({ min: 1, max: 512, pattern: "[a-zA-Z0-9_\\-/.#]+" })),
  logStream: optional(string({ min: 1, max: 512, pattern: "[^:*]*" })),
});
const logging = union({ disabled: optional(loggingDisabled), cloudWatch: optional(cloudWatchLogging) });
/** X86_64 is our extension: AWS has ARM_64 only. */
const architecture = enumeration(["ARM_64", "X86_64"]);
const cpuConfiguration = structure({ architecture: required(architecture) });
const resources = structure({ minimumMemoryInMiB: required(integer()) });
const resourcesList = list(resources, { max: 1 });
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
  string({ max: 4096, sensitive: true }),
  { max: 50 },
);
const tags = map(
  string({ min: 1, max: 128, pattern: "([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)" }),
  string({ max: 256, pattern: "([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)" }),
);
const microvmImageState = enumeration([
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
const microvmImageIdentifier = string({ min: 1, max: 256 });
const microvmImageVersionState = enumeration([
  "PENDING",
  "IN_PROGRESS",
  "SUCCESSFUL",
  "FAILED",
  "DELETING",
  "DELETED",
  "DELETE_FAILED",
]);
const microvmImageVersionStatus = enumeration(["ACTIVE", "INACTIVE"]);
/** GENERIC is our extension: what AWS names are its own processors. */
const chipset = enumeration(["GRAVITON", "GENERIC"]);
const buildState = enumeration(["PENDING", "IN_PROGRESS", "SUCCESSFUL", "FAILED"]);
const microvmImageBuildSummary = structure({
  imageArn: required(nonBlankString),
  imageVersion: required(nonBlankString),
  buildId: required(nonBlankString),
  buildState: required(buildState),
  architecture: required(architecture),
  chipset: required(chipset),
  chipsetGeneration: required(nonBlankString),
  createdAt: required(timestamp()),
  stateReason: optional(string()),
});
const snapshotBuild = structure({
  memorySnapshotSizeInBytes: optional(integer()),
  codeInstallSizeInBytes: optional(integer()),
  diskSnapshotSizeInBytes: optional(integer()),
});
const networkConnectorList = list(string({ min: 1, max: 2048 }), { max: 10 });
const idlePolicy = structure({
  maxIdleDurationSeconds: required(integer({ min: 60 })),
  suspendedDurationSeconds: required(integer()),
  autoResumeEnabled: required(boolean()),
});
const microvmIdentifier = string({ min: 1, max: 256 });
const microvmState = enumeration(["PENDING", "RUNNING", "SUSPENDING", "SUSPENDED", "TERMINATING", "TERMINATED"]);
const microvmImageArn = string({
  min: 20,
  max: 2048,
  pattern: "arn:[a-z0-9-]+:lambda:[a-z0-9-]*:[a-z0-9]*:microvm-image:.+",
});
const microvmItem = structure({
  microvmId: required(microvmIdentifier),
  state: required(microvmState),
  imageArn: required(microvmImageArn),
  imageVersion: required(version),
  startedAt: required(timestamp()),
});
const portRange = structure({
  startPort: required(integer({ min: 1, max: 65535 })),
  endPort: required(integer({ min: 1, max: 65535 })),
});
const portSpecification = union({
  port: optional(integer({ min: 1, max: 65535 })),
  range: optional(portRange),
  allPorts: optional(structure({})),
});

export const OPERATIONS = {
  CreateMicrovmImage: operation({
    method: "POST",
    uri: "/2025-09-09/microvm-images",
    status: 201,
    input: {
      baseImageArn: required(nonBlankString),
      buildRoleArn: required(roleArn),
      codeArtifact: required(codeArtifact),
      name: required(imageName),
      baseImageVersion: optional(version),
      description: optional(string()),
      logging: optional(logging),
      egressNetworkConnectors: optional(list(string({ min: 1, max: 2048 }), { max: 1 })),
      cpuConfigurations: optional(list(cpuConfiguration)),
      resources: optional(resourcesList),
      additionalOsCapabilities: optional(capabilityList),
      hooks: optional(hooks),
      environmentVariables: optional(environmentVariableMap),
      tags: optional(tags),
      clientToken: idempotencyToken(string({ min: 1, max: 128 })),
    },
    output: {
      imageArn: required(nonBlankString),
      name: required(imageName),
      state: required(microvmImageState),
      createdAt: required(timestamp()),
      baseImageArn: required(nonBlankString),
      buildRoleArn: required(roleArn),
      codeArtifact: required(codeArtifact),
      imageVersion: required(nonBlankString),
      latestActiveImageVersion: optional(nonBlankString),
      latestFailedImageVersion: optional(nonBlankString),
      baseImageVersion: optional(version),
      description: optional(string()),
      logging: optional(logging),
      egressNetworkConnectors: optional(list(string({ min: 1, max: 2048 }), { max: 1 })),
      cpuConfigurations: optional(list(cpuConfiguration)),
      resources: optional(resourcesList),
      additionalOsCapabilities: optional(capabilityList),
      hooks: optional(hooks),
      environmentVariables: optional(environmentVariableMap),
      tags: optional(tags),
      updatedAt: optional(timestamp()),
    },
    errors: [
      "AccessDeniedException",
      "ConflictException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ServiceQuotaExceededException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  GetMicrovmImage: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}",
    status: 200,
    input: { imageIdentifier: path(microvmImageIdentifier) },
    output: {
      imageArn: required(nonBlankString),
      name: required(imageName),
      state: required(microvmImageState),
      createdAt: required(timestamp()),
      latestActiveImageVersion: optional(nonBlankString),
      latestFailedImageVersion: optional(nonBlankString),
      tags: optional(tags),
      updatedAt: optional(timestamp()),
    },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  GetMicrovmImageVersion: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
    status: 200,
    input: { imageIdentifier: path(microvmImageIdentifier), imageVersion: path(nonBlankString) },
    output: {
      baseImageArn: required(nonBlankString),
      buildRoleArn: required(roleArn),
      codeArtifact: required(codeArtifact),
      imageArn: required(nonBlankString),
      imageVersion: required(nonBlankString),
      state: required(microvmImageVersionState),
      status: required(microvmImageVersionStatus),
      createdAt: required(timestamp()),
      baseImageVersion: optional(version),
      description: optional(string()),
      logging: optional(logging),
      egressNetworkConnectors: optional(list(string({ min: 1, max: 2048 }), { max: 1 })),
      cpuConfigurations: optional(list(cpuConfiguration)),
      resources: optional(resourcesList),
      additionalOsCapabilities: optional(capabilityList),
      hooks: optional(hooks),
      environmentVariables: optional(environmentVariableMap),
      updatedAt: optional(timestamp()),
      stateReason: optional(string()),
      tags: optional(tags),
    },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  ListMicrovmImageBuilds: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds",
    status: 200,
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      imageVersion: path(nonBlankString),
      maxResults: query(integer({ min: 1, max: 50 })),
      nextToken: query(string()),
      architecture: query(architecture),
      chipset: query(chipset),
      chipsetGeneration: query(nonBlankString),
    },
    output: { items: required(list(microvmImageBuildSummary)), nextToken: optional(string()) },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  GetMicrovmImageBuild: operation({
    method: "GET",
    uri: "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds/{buildId}",
    status: 200,
    input: {
      imageIdentifier: path(microvmImageIdentifier),
      imageVersion: path(nonBlankString),
      buildId: path(nonBlankString),
    },
    output: {
      imageArn: required(nonBlankString),
      imageVersion: required(nonBlankString),
      buildId: required(nonBlankString),
      buildState: required(buildState),
      architecture: required(architecture),
      chipset: required(chipset),
      chipsetGeneration: required(nonBlankString),
      createdAt: required(timestamp()),
      stateReason: optional(string()),
      snapshotBuild: optional(snapshotBuild),
    },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  RunMicrovm: operation({
    method: "POST",
    uri: "/2025-09-09/microvms",
    status: 200,
    input: {
      imageIdentifier: required(microvmImageIdentifier),
      ingressNetworkConnectors: optional(networkConnectorList),
      egressNetworkConnectors: optional(networkConnectorList),
      imageVersion: optional(version),
      executionRoleArn: optional(roleArn),
      idlePolicy: optional(idlePolicy),
      logging: optional(logging),
      runHookPayload: optional(string({ max: 4096, sensitive: true })),
      maximumDurationInSeconds: optional(integer({ min: 1, max: 28800 })),
      clientToken: idempotencyToken(string({ min: 1, max: 128 })),
    },
    output: {
      microvmId: required(microvmIdentifier),
      state: required(microvmState),
      endpoint: required(string({ min: 1, max: 2048 })),
      imageArn: required(microvmImageArn),
      imageVersion: required(version),
      maximumDurationInSeconds: required(integer()),
      startedAt: required(timestamp()),
      executionRoleArn: optional(roleArn),
      idlePolicy: optional(idlePolicy),
      terminatedAt: optional(timestamp()),
      stateReason: optional(nonBlankString),
      ingressNetworkConnectors: optional(networkConnectorList),
      egressNetworkConnectors: optional(networkConnectorList),
    },
    errors: [
      "AccessDeniedException",
      "ConflictException",
      "InsufficientCapacityException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ServiceQuotaExceededException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  GetMicrovm: operation({
    method: "GET",
    uri: "/2025-09-09/microvms/{microvmIdentifier}",
    status: 200,
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {
      microvmId: required(microvmIdentifier),
      state: required(microvmState),
      endpoint: required(string({ min: 1, max: 2048 })),
      imageArn: required(microvmImageArn),
      imageVersion: required(version),
      maximumDurationInSeconds: required(integer()),
      startedAt: required(timestamp()),
      executionRoleArn: optional(roleArn),
      idlePolicy: optional(idlePolicy),
      terminatedAt: optional(timestamp()),
      stateReason: optional(nonBlankString),
      ingressNetworkConnectors: optional(networkConnectorList),
      egressNetworkConnectors: optional(networkConnectorList),
    },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  ListMicrovms: operation({
    method: "GET",
    uri: "/2025-09-09/microvms",
    status: 200,
    input: {
      maxResults: query(integer({ min: 1, max: 50 })),
      nextToken: query(string()),
      imageIdentifier: query(microvmImageIdentifier),
      imageVersion: query(string()),
    },
    output: { items: required(list(microvmItem)), nextToken: optional(string()) },
    errors: [
      "AccessDeniedException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  SuspendMicrovm: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/suspend",
    status: 200,
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {},
    errors: [
      "AccessDeniedException",
      "ConflictException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  ResumeMicrovm: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/resume",
    status: 200,
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {},
    errors: [
      "AccessDeniedException",
      "ConflictException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  TerminateMicrovm: operation({
    method: "DELETE",
    uri: "/2025-09-09/microvms/{microvmIdentifier}",
    status: 200,
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {},
    errors: [
      "AccessDeniedException",
      "ConflictException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
  CreateMicrovmAuthToken: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/auth-token",
    status: 200,
    input: {
      microvmIdentifier: path(microvmIdentifier),
      expirationInMinutes: required(integer({ min: 1 })),
      allowedPorts: required(list(portSpecification, { min: 1 })),
    },
    output: {
      authToken: required(
        map(string({ min: 1, max: 256, pattern: "[^\\s]+" }), string({ max: 8000, sensitive: true }), {
          min: 1,
          max: 10,
        }),
      ),
    },
    errors: [
      "AccessDeniedException",
      "ConflictException",
      "InternalServerException",
      "ResourceNotFoundException",
      "ThrottlingException",
      "ValidationException",
    ],
  }),
} as const;

export type OperationName = keyof typeof OPERATIONS;
export type OperationInput<N extends OperationName> = Input<(typeof OPERATIONS)[N]>;
export type OperationOutput<N extends OperationName> = Output<(typeof OPERATIONS)[N]>;
