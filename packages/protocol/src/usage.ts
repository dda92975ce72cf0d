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
}
