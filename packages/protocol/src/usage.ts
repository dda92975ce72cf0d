/** What a microvm takes of its host now, as the host's kernel counts it. */
export interface Usage {
  readonly microvmId: string;
  /** `standby`: suspended, and its process is kept for a while so that it wakes at once. */
  readonly process: "running" | "standby" | "none";
  /** The process's part of the memory that it shares with others (the template's) and all of its own; null without one. */
  readonly pssBytes: number | null;
  /** Memory of its own alone; null without a process. */
  readonly privateBytes: number | null;
  /** Of its newest restore point: the memory that differs from its template. 0 before the first. */
  readonly snapshotMemoryBytes: number;
  /** Disk layers of its own, those included that it shares with checkpoints and forks. */
  readonly diskBytes: number;
  /**
   * What it has sent to other machines since its process is there, names asked for included; what its endpoint answered
   * does not count. Null without a process.
   */
  readonly networkSentBytes: number | null;
  /** As for what it has received from them. */
  readonly networkReceivedBytes: number | null;
  /** Its newest restore point; null before the first. */
  readonly restorePoint: RestorePointState | null;
}

/** Whether every byte of a restore point is as it was written. */
export interface RestorePointState {
  /** `unverified`: it has not been read as a whole yet. */
  readonly state: "verified" | "damaged" | "unverified";
  /** When it was last read as a whole: ISO 8601 in UTC. */
  readonly checkedAt: string | null;
  /** Which file is damaged, and how. */
  readonly damage: string | null;
}
