import type {
  AccessKey,
  Account,
  AuditEvent,
  Checkpoint,
  CheckpointPage,
  ForkOptions,
  Forks,
  Lineage,
  NewAccessKey,
  NewAccount,
  QuotaName,
  Quotas,
  QuotaValue,
  Receipt,
  Rollback,
  Usage,
} from "@torpor/protocol";
import type { AuditFilter } from "../../control/audit/read-trail.ts";
import type { KeyChange, NewKeyRequest } from "../../control/identity/key-operations.ts";
import type { LogReading } from "../../control/logs/reading.ts";
import type { RequestContext } from "../../control/request-context.ts";
import type { HostFacts, LogLine } from "../../host/host-client.ts";

/**
 * What Torpor tells beyond AWS's operations, under /torpor/v1. Failures are TorporErrors; what belongs to another
 * account is treated as the AWS operations treat it. Streams are only begun when the caller may read them, and end
 * when the signal says so.
 */
export interface Extensions {
  readonly checkpoints: CheckpointExtensions;
  readonly quotas: QuotaExtensions;
  readonly keys: KeyExtensions;
  readonly accounts: AccountExtensions;
  readonly audit: AuditExtensions;
  readonly logGroups: LogGroups;
  hostFacts(): HostFacts;
  /** What the microvm's operations did and cost, oldest first. */
  receipts(context: RequestContext, microvmId: string): Promise<readonly Receipt[]>;
  /** What the microvm takes of its host now. */
  usage(context: RequestContext, microvmId: string): Promise<Usage>;
  /** What the workload wrote, oldest first; with `follow` until the microvm ends. */
  logs(
    context: RequestContext,
    microvmId: string,
    follow: boolean,
    signal: AbortSignal,
  ): Promise<AsyncIterable<LogLine>>;
  /** Text of the version's build log; with `follow` until the build ends. */
  buildLog(
    context: RequestContext,
    imageArn: string,
    version: string,
    follow: boolean,
    signal: AbortSignal,
  ): Promise<AsyncIterable<string>>;
  /** What the version's build did and cost; undefined as long as no build of it has ended well. */
  buildReceipt(context: RequestContext, imageArn: string, version: string): Promise<Receipt | undefined>;
}

/** What accounts may have. What the caller may not see or set is refused. */
export interface QuotaExtensions {
  /** Of the caller's account unless another one is named. */
  list(context: RequestContext, accountId: string | undefined): Promise<Quotas>;
  set(context: RequestContext, accountId: string, name: QuotaName, value: QuotaValue): Promise<void>;
  reset(context: RequestContext, accountId: string, name: QuotaName): Promise<void>;
}

/** Access keys of the caller's account; of any account for keys of the server's own. */
export interface KeyExtensions {
  create(context: RequestContext, wanted: NewKeyRequest): Promise<NewAccessKey>;
  list(context: RequestContext, accountId: string | undefined): Promise<readonly AccessKey[]>;
  update(context: RequestContext, accessKeyId: string, change: KeyChange): Promise<AccessKey>;
  /** Another key for the same. */
  rotate(context: RequestContext, accessKeyId: string): Promise<NewAccessKey>;
  delete(context: RequestContext, accessKeyId: string): Promise<void>;
  /** null: the key may do everything. */
  policy(context: RequestContext, accessKeyId: string): Promise<unknown>;
  putPolicy(context: RequestContext, accessKeyId: string, policy: unknown): Promise<void>;
}

/** The server's accounts, for keys of its own account only. */
export interface AccountExtensions {
  create(
    context: RequestContext,
    wanted: { readonly accountId?: string | null | undefined; readonly name?: string | null | undefined },
  ): Promise<NewAccount>;
  list(context: RequestContext): Promise<readonly Account[]>;
  update(context: RequestContext, accountId: string, enabled: boolean): Promise<Account>;
}

export interface AuditExtensions {
  list(context: RequestContext, filter: AuditFilter, follow: boolean, signal: AbortSignal): AsyncIterable<AuditEvent>;
}
/** What log groups hold: CloudWatch Logs' operations and our own read the same. */
export type LogGroups = Pick<LogReading, "groups" | "streams" | "events" | "search" | "follow">;

/** Checkpoints, forks and rollbacks. What belongs to another account does not exist. */
export interface CheckpointExtensions {
  create(
    context: RequestContext,
    microvmId: string,
    name: string | null,
    options?: { readonly previous?: boolean },
  ): Promise<Checkpoint>;
  get(context: RequestContext, checkpointId: string): Promise<Checkpoint>;
  /** Of one microvm, or of all. */
  list(
    context: RequestContext,
    microvmId: string | undefined,
    page: { readonly maxResults?: number | undefined; readonly nextToken?: string | undefined },
  ): Promise<CheckpointPage>;
  delete(context: RequestContext, checkpointId: string): Promise<void>;
  forkCheckpoint(context: RequestContext, checkpointId: string, options: ForkOptions): Promise<Forks>;
  forkMicrovm(context: RequestContext, microvmId: string, options: ForkOptions): Promise<Forks>;
  rollback(context: RequestContext, microvmId: string, checkpointId: string): Promise<Rollback>;
  lineage(context: RequestContext, microvmId: string): Promise<Lineage>;
}

/** The unsigned answer of /torpor/v1/health. */
export interface Health {
  readonly status: "ok";
  readonly version: string;
  /** `emulated`: no security boundary between microvms and this machine. */
  readonly isolation: HostFacts["isolation"];
}
