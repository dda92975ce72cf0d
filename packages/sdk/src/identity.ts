import {
  ACCESS_KEY_STATUSES,
  type AccessKey,
  type Account,
  type AuditEvent,
  type NewAccessKey,
  type NewAccount,
} from "@torpor/protocol";
import { fieldsOf, numberIn, oneOf, optionalTextIn, textIn, unexpected } from "./fields.ts";

/** @throws ApiError when it is none */
export function parseAccessKey(value: unknown): AccessKey {
  const what = "access key";
  const fields = fieldsOf(value);
  const text = (name: string): string => textIn(fields, name, what);
  return {
    accessKeyId: text("accessKeyId"),
    accountId: text("accountId"),
    name: text("name"),
    principalArn: text("principalArn"),
    status: oneOf(ACCESS_KEY_STATUSES, fields.get("status"), what),
    access: oneOf(["full", "policy"], fields.get("access"), what),
    createdAt: text("createdAt"),
    expiresAt: optionalTextIn(fields, "expiresAt", what),
    lastUsedAt: optionalTextIn(fields, "lastUsedAt", what),
  };
}

/** @throws ApiError when it is none */
export function parseNewAccessKey(value: unknown): NewAccessKey {
  return { ...parseAccessKey(value), secretAccessKey: textIn(fieldsOf(value), "secretAccessKey", "new access key") };
}

/** @throws ApiError when it is none */
export function parseAccount(value: unknown): Account {
  const what = "account";
  const fields = fieldsOf(value);
  const [enabled, server] = [fields.get("enabled"), fields.get("server")];
  if (typeof enabled !== "boolean" || typeof server !== "boolean") throw unexpected(what);
  return {
    accountId: textIn(fields, "accountId", what),
    name: optionalTextIn(fields, "name", what),
    enabled,
    server,
    createdAt: textIn(fields, "createdAt", what),
  };
}

/** @throws ApiError when it is none */
export function parseNewAccount(value: unknown): NewAccount {
  return { ...parseAccount(value), rootKey: parseNewAccessKey(fieldsOf(value).get("rootKey")) };
}

/** @throws ApiError when it is none */
export function parseAuditEvent(value: unknown): AuditEvent {
  const what = "line of an audit trail";
  const fields = fieldsOf(value);
  const text = (name: string): string => textIn(fields, name, what);
  return {
    time: text("time"),
    accountId: text("accountId"),
    accessKeyId: text("accessKeyId"),
    keyName: text("keyName"),
    sourceIp: text("sourceIp"),
    operation: text("operation"),
    resource: optionalTextIn(fields, "resource", what),
    target: optionalTextIn(fields, "target", what),
    requestId: text("requestId"),
    status: numberIn(fields, "status", what),
    error: optionalTextIn(fields, "error", what),
  };
}
