/** What an operation did and what it cost: shown to users as it is, under /torpor/v1. */
export interface Receipt {
  /** `build`, `launch`, `suspend`, `resume`, `checkpoint`, `rollback`, `terminate`. */
  readonly operation: string;
  readonly startedAt: string;
  /** Wall time of the whole operation in milliseconds. */
  readonly totalMs: number;
  /** In order; they need not add up to `totalMs` where steps run side by side. */
  readonly phases: readonly { readonly name: string; readonly ms: number }[];
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** What did not have to be made anew, e.g. `slot`, `layer cache`. */
  readonly reused: readonly string[];
}
