import { arnIn, imageOfMicrovm } from "../permission.ts";
import {
  boolean,
  enumeration,
  idempotencyToken,
  integer,
  list,
  map,
  operation,
  optional,
  path,
  query,
  required,
  string,
  structure,
  timestamp,
  union,
} from "../shape.ts";
import {
  CHANGE_ERRORS,
  logging,
  microvmImageIdentifier,
  nonBlankString,
  pageOf,
  pageRequest,
  READ_ERRORS,
  roleArn,
  version,
} from "./shapes.ts";

const networkConnectorList = list(string({ min: 1, max: 2048 }), { min: 0, max: 10 });
const idlePolicy = structure({
  maxIdleDurationSeconds: required(integer({ min: 60 })),
  suspendedDurationSeconds: required(integer({ min: 0 })),
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

const tokenParts = map(
  string({ min: 1, max: 256, pattern: "[^\\s]+" }),
  string({ min: 0, max: 8000, sensitive: true }),
  {
    min: 1,
    max: 10,
  },
);

/** What is told of one by itself. */
const microvm = {
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
};

export const MICROVM_OPERATIONS = {
  RunMicrovm: operation({
    method: "POST",
    uri: "/2025-09-09/microvms",
    status: 200,
    permission: {
      on: arnIn("imageIdentifier"),
      passesRole: "executionRoleArn",
      passesConnectors: { ingressNetworkConnectors: "HTTP_INGRESS", egressNetworkConnectors: "inherited" },
    },
    input: {
      imageIdentifier: required(microvmImageIdentifier),
      ingressNetworkConnectors: optional(networkConnectorList),
      egressNetworkConnectors: optional(networkConnectorList),
      imageVersion: optional(version),
      executionRoleArn: optional(roleArn),
      idlePolicy: optional(idlePolicy),
      logging: optional(logging),
      runHookPayload: optional(string({ min: 0, max: 4096, sensitive: true })),
      maximumDurationInSeconds: optional(integer({ min: 1, max: 28800 })),
      clientToken: idempotencyToken(string({ min: 1, max: 128 })),
    },
    output: microvm,
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
    permission: { on: imageOfMicrovm("microvmIdentifier") },
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: microvm,
    errors: READ_ERRORS,
  }),
  ListMicrovms: operation({
    method: "GET",
    uri: "/2025-09-09/microvms",
    status: 200,
    permission: { on: arnIn("imageIdentifier") },
    input: {
      ...pageRequest,
      imageIdentifier: query(microvmImageIdentifier),
      imageVersion: query(string()),
    },
    output: pageOf(microvmItem),
    errors: READ_ERRORS,
  }),
  SuspendMicrovm: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/suspend",
    status: 200,
    permission: { on: imageOfMicrovm("microvmIdentifier") },
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {},
    errors: CHANGE_ERRORS,
  }),
  ResumeMicrovm: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/resume",
    status: 200,
    permission: { on: imageOfMicrovm("microvmIdentifier") },
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {},
    errors: CHANGE_ERRORS,
  }),
  TerminateMicrovm: operation({
    method: "DELETE",
    uri: "/2025-09-09/microvms/{microvmIdentifier}",
    status: 200,
    permission: { on: imageOfMicrovm("microvmIdentifier") },
    input: { microvmIdentifier: path(microvmIdentifier) },
    output: {},
    errors: CHANGE_ERRORS,
  }),
  CreateMicrovmAuthToken: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/auth-token",
    status: 200,
    permission: { on: imageOfMicrovm("microvmIdentifier") },
    input: {
      microvmIdentifier: path(microvmIdentifier),
      expirationInMinutes: required(integer({ min: 1 })),
      allowedPorts: required(list(portSpecification, { min: 1 })),
    },
    output: {
      authToken: required(tokenParts),
    },
    errors: CHANGE_ERRORS,
  }),
  CreateMicrovmShellAuthToken: operation({
    method: "POST",
    uri: "/2025-09-09/microvms/{microvmIdentifier}/shell-auth-token",
    status: 200,
    permission: { on: imageOfMicrovm("microvmIdentifier") },
    input: { microvmIdentifier: path(microvmIdentifier), expirationInMinutes: required(integer({ min: 1 })) },
    output: { authToken: required(tokenParts) },
    errors: CHANGE_ERRORS,
  }),
} as const;
