/**
 * Torpor's own operations, under /torpor/v1: where they are and what they need permission for (`torpor:CreateCheckpoint`).
 * What they take and answer is said by the server's routes and the SDK. The health check is not among them: it is not
 * signed.
 */
import {
  anything,
  arnIn,
  imageOfCheckpoint,
  imageOfMicrovm,
  logGroupIn,
  newOwnerNamed,
  ownerOfKey,
  type Permission,
  theAccount,
  theServer,
} from "./permission.ts";

export interface OwnOperation {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path with `{label}` segments. */
  readonly uri: string;
  /** Status of success. */
  readonly status: number;
  readonly permission: Permission;
}

const own = (method: OwnOperation["method"], path: string, permission: Permission, status = 200): OwnOperation => ({
  method,
  uri: `/torpor/v1/${path}`,
  status,
  permission,
});
const ofMicrovm: Permission = { on: imageOfMicrovm("microvmId") };
const ofCheckpoint: Permission = { on: imageOfCheckpoint("checkpointId") };
const ofImage: Permission = { on: arnIn("imageArn") };
const ofKey: Permission = { on: ownerOfKey("accessKeyId") };

export const OWN_OPERATIONS = {
  GetHost: own("GET", "host", { on: anything }),

  ListReceipts: own("GET", "microvms/{microvmId}/receipts", ofMicrovm),
  GetUsage: own("GET", "microvms/{microvmId}/usage", ofMicrovm),
  GetLogs: own("GET", "microvms/{microvmId}/logs", ofMicrovm),
  GetLineage: own("GET", "microvms/{microvmId}/lineage", ofMicrovm),
  GetBuildLog: own("GET", "images/{imageArn}/versions/{version}/log", ofImage),
  GetBuildReceipt: own("GET", "images/{imageArn}/versions/{version}/receipt", ofImage),

  ListLogGroups: own("GET", "logs/groups", { on: anything }),
  ListLogStreams: own("GET", "logs/streams", { on: logGroupIn("group") }),
  ReadLogEvents: own("GET", "logs/events", { on: logGroupIn("group") }),

  CreateCheckpoint: own("POST", "microvms/{microvmId}/checkpoints", ofMicrovm, 201),
  ListMicrovmCheckpoints: own("GET", "microvms/{microvmId}/checkpoints", ofMicrovm),
  ListCheckpoints: own("GET", "checkpoints", { on: anything }),
  GetCheckpoint: own("GET", "checkpoints/{checkpointId}", ofCheckpoint),
  DeleteCheckpoint: own("DELETE", "checkpoints/{checkpointId}", ofCheckpoint),
  /** The role and the connectors that a fork has of its origin are passed like those that are named. */
  ForkCheckpoint: own("POST", "checkpoints/{checkpointId}/fork", { ...ofCheckpoint, passesRole: "executionRoleArn" }),
  ForkMicrovm: own("POST", "microvms/{microvmId}/fork", { ...ofMicrovm, passesRole: "executionRoleArn" }),
  RollbackMicrovm: own("POST", "microvms/{microvmId}/rollback", ofMicrovm),

  CreateAccessKey: own("POST", "keys", { on: newOwnerNamed("name") }, 201),
  ListAccessKeys: own("GET", "keys", { on: theAccount }),
  UpdateAccessKey: own("PATCH", "keys/{accessKeyId}", ofKey),
  RotateAccessKey: own("POST", "keys/{accessKeyId}/rotate", ofKey, 201),
  DeleteAccessKey: own("DELETE", "keys/{accessKeyId}", ofKey),
  GetAccessKeyPolicy: own("GET", "keys/{accessKeyId}/policy", ofKey),
  PutAccessKeyPolicy: own("PUT", "keys/{accessKeyId}/policy", ofKey),
  DeleteAccessKeyPolicy: own("DELETE", "keys/{accessKeyId}/policy", ofKey),

  CreateAccount: own("POST", "accounts", { on: theServer }, 201),
  ListAccounts: own("GET", "accounts", { on: theServer }),
  UpdateAccount: own("PATCH", "accounts/{accountId}", { on: theServer }),

  ListQuotas: own("GET", "quotas", { on: theAccount }),
  SetQuota: own("PUT", "accounts/{accountId}/quotas/{name}", { on: theServer }),
  ResetQuota: own("DELETE", "accounts/{accountId}/quotas/{name}", { on: theServer }),

  ListAuditEvents: own("GET", "audit", { on: theAccount }),
} as const satisfies Readonly<Record<string, OwnOperation>>;

export type OwnOperationName = keyof typeof OWN_OPERATIONS;
