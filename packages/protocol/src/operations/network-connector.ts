/**
 * Network connectors belong to a service of their own, Lambda Core: another version in the path, members with capitals,
 * times as ISO 8601 texts, and what is unset is left out.
 */
import { anything, connectorIn, newConnectorNamed } from "../permission.ts";
import {
  enumeration,
  idempotencyToken,
  integer,
  isoTimestamp,
  list,
  operation,
  optional,
  path,
  query,
  required,
  string,
  structure,
  union,
} from "../shape.ts";
import { tags } from "./shapes.ts";

const ARN_PATTERN =
  "arn:aws[a-zA-Z-]*:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:network-connector:[a-zA-Z0-9-_]+(:[1-9]|[1-9][0-9]+)?";
const connectorArn = string({ min: 1, max: 140, pattern: `(${ARN_PATTERN})` });
const connectorName = string({ min: 1, max: 140, pattern: `(${ARN_PATTERN})|[a-zA-Z0-9_-]{1,64}` });
const identifier = string({ min: 1, max: 140 });
const operatorRole = string({
  min: 0,
  max: 10_000,
  pattern: "arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
});
const configuration = union({
  VpcEgressConfiguration: optional(
    structure({
      SubnetIds: optional(list(string({ min: 0, max: 1024, pattern: "subnet-[0-9a-z]*" }), { min: 1, max: 16 })),
      SecurityGroupIds: optional(list(string({ min: 0, max: 1024, pattern: "sg-[0-9a-zA-Z]*" }), { min: 0, max: 5 })),
      NetworkProtocol: optional(enumeration(["IPv4", "DualStack"])),
      AssociatedComputeResourceTypes: optional(list(enumeration(["MicroVm"]), { min: 1, max: 1 })),
    }),
  ),
});
const state = enumeration(["PENDING", "ACTIVE", "INACTIVE", "FAILED", "DELETING", "DELETE_FAILED"]);
const updateStatus = enumeration(["Successful", "Failed", "InProgress"]);
const reasonCode = enumeration([
  "DisallowedByVpcEncryptionControl",
  "Ec2RequestLimitExceeded",
  "InsufficientRolePermissions",
  "InternalError",
  "InvalidSecurityGroup",
  "InvalidSubnet",
  "SubnetOutOfIPAddresses",
]);
const clientToken = idempotencyToken(string({ min: 1, max: 64 }));
const core = {
  Arn: required(connectorArn),
  Name: required(connectorName),
  Id: required(identifier),
  Configuration: optional(configuration),
  OperatorRole: optional(operatorRole),
  State: optional(state),
} as const;
const CHANGE_ERRORS = [
  "InvalidParameterValueException",
  "ResourceConflictException",
  "ServiceException",
  "TooManyRequestsException",
  "ResourceNotFoundException",
] as const;
const collection = "/2026-04-04/network-connectors";
const one = `${collection}/{Identifier}` as const;

export const NETWORK_CONNECTOR_OPERATIONS = {
  CreateNetworkConnector: operation({
    method: "POST",
    uri: collection,
    status: 202,
    permission: { on: newConnectorNamed("Name"), passesRole: "OperatorRole" },
    input: {
      Name: required(connectorName),
      Configuration: required(configuration),
      OperatorRole: optional(operatorRole),
      ClientToken: clientToken,
      Tags: optional(tags),
    },
    output: core,
    unset: "omit",
    errors: [
      "InvalidParameterValueException",
      "ResourceConflictException",
      "NetworkConnectorLimitExceededException",
      "ServiceException",
      "TooManyRequestsException",
    ],
  }),
  GetNetworkConnector: operation({
    method: "GET",
    uri: one,
    status: 200,
    permission: { on: connectorIn("Identifier") },
    input: { Identifier: path(identifier) },
    output: {
      ...core,
      Version: optional(integer({ min: 0 })),
      StateReason: optional(string()),
      StateReasonCode: optional(reasonCode),
      LastUpdateStatus: optional(updateStatus),
      LastUpdateStatusReason: optional(string()),
      LastUpdateStatusReasonCode: optional(reasonCode),
      LastModified: optional(isoTimestamp()),
    },
    unset: "omit",
    errors: [
      "InvalidParameterValueException",
      "ServiceException",
      "TooManyRequestsException",
      "ResourceNotFoundException",
    ],
  }),
  ListNetworkConnectors: operation({
    method: "GET",
    uri: collection,
    status: 200,
    permission: { on: anything },
    input: { State: query(state), Marker: query(string()), MaxItems: query(integer({ min: 1, max: 100 })) },
    output: {
      NetworkConnectors: required(
        list(
          structure({
            Arn: required(connectorArn),
            Name: required(connectorName),
            Id: required(identifier),
            Type: required(enumeration(["VPC_EGRESS"])),
            State: optional(state),
            LastModified: optional(isoTimestamp()),
          }),
          { min: 0, max: 50 },
        ),
      ),
      NextMarker: optional(string()),
    },
    unset: "omit",
    errors: ["InvalidParameterValueException", "ServiceException", "TooManyRequestsException"],
  }),
  UpdateNetworkConnector: operation({
    method: "PUT",
    uri: one,
    status: 202,
    permission: { on: connectorIn("Identifier"), passesRole: "OperatorRole" },
    input: {
      Identifier: path(identifier),
      Configuration: optional(configuration),
      OperatorRole: optional(operatorRole),
      ClientToken: clientToken,
    },
    output: {
      ...core,
      LastUpdateStatus: optional(updateStatus),
      LastUpdateStatusReason: optional(string()),
      LastModified: optional(isoTimestamp()),
    },
    unset: "omit",
    errors: CHANGE_ERRORS,
  }),
  DeleteNetworkConnector: operation({
    method: "DELETE",
    uri: one,
    status: 202,
    permission: { on: connectorIn("Identifier") },
    input: { Identifier: path(identifier) },
    output: core,
    unset: "omit",
    errors: CHANGE_ERRORS,
  }),
} as const;
