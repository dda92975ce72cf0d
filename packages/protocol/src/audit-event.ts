/** A line of the audit trail: who changed what, and what came of it. No payloads, no secrets. */
export interface AuditEvent {
  /** When the call was answered. */
  readonly time: string;
  readonly accountId: string;
  readonly accessKeyId: string;
  readonly keyName: string;
  readonly sourceIp: string;
  /** `lambda:RunMicrovm`, `torpor:CreateCheckpoint`, `s3:PutObject` */
  readonly operation: string;
  /** What the caller's permission was asked for; null when the request could not be read that far. */
  readonly resource: string | null;
  /** What was named or made beyond that: a microvm, a version, a checkpoint, an access key. */
  readonly target: string | null;
  readonly requestId: string;
  readonly status: number;
  /** The error's type; null when there was none. */
  readonly error: string | null;
}
