export type {
  AccessKey,
  Account,
  AuditEvent,
  Checkpoint,
  ForkedMicrovm,
  ForkOptions,
  Forks,
  Lineage,
  NewAccessKey,
  NewAccount,
  Quota,
  Quotas,
  Rollback,
} from "@torpor/protocol";
export type { Administration, AuditOptions, NewKeyOptions } from "./administration.ts";
export { ApiError, UnreachableError } from "./api-error.ts";
export { type ImageVersion, type ListOperation, TorporClient } from "./client.ts";
export type { Health, HostFacts, LogLine, Receipt } from "./extensions.ts";
export type { LogEvent, LogEventFilter, LogGroup, LogGroups, LogStream } from "./log-groups.ts";
export { lookupOf } from "./loopback.ts";
export { ObjectStore } from "./object-store.ts";
export type { ShellEvent, ShellOptions, ShellSession } from "./shell.ts";
export { ShellError } from "./shell-messages.ts";
export type { Credentials } from "./signer.ts";
export type { ConnectionOptions } from "./transport.ts";
