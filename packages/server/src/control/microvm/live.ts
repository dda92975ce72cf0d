import type { InstanceExit } from "../../host/host-client.ts";
import type { Microvm } from "../../store/microvm.ts";

/**
 * A microvm that is not TERMINATED, in memory: its row as last written, and what is not worth a row. The endpoint
 * works on this alone, so that it serves on when the database does not. Only the fleet changes `vm`.
 */
export class LiveMicrovm {
  #vm: Microvm;
  #traffic = new AbortController();
  readonly #waiting = new Set<() => void>();
  /** When bytes last went through, or the microvm became RUNNING; monotonic milliseconds. */
  lastUsed: number;
  /** The `lastUsed` that the store has. */
  recordedUse: number;
  /** Aborts what the host is doing for it now. */
  work: AbortController | undefined;
  /** How its instance ended by itself, since the last launch or resume. */
  exit: InstanceExit | undefined;
  /** The resume in progress, shared by all who want it. */
  resume: Promise<void> | undefined;
  /** When a resume last failed, monotonic milliseconds. */
  resumeFailedAt: number | undefined;
  /** Its termination, until that is written. */
  termination: Promise<void> | undefined;
  /** Callers that wait to enter. */
  queue = 0;

  constructor(vm: Microvm, monotonic: number) {
    this.#vm = vm;
    this.lastUsed = monotonic;
    this.recordedUse = monotonic;
    if (vm.state !== "RUNNING") this.#traffic.abort();
  }

  get vm(): Microvm {
    return this.#vm;
  }

  /** Aborted while the microvm is not RUNNING. */
  get closing(): AbortSignal {
    return this.#traffic.signal;
  }

  /** The row was written so. Cuts or opens traffic, and wakes those who wait for a change. */
  become(vm: Microvm, monotonic: number): void {
    this.#vm = vm;
    if (vm.state !== "RUNNING") {
      this.#traffic.abort();
    } else if (this.#traffic.signal.aborted) {
      this.#traffic = new AbortController();
      this.lastUsed = monotonic;
    }
    for (const wake of [...this.#waiting]) wake();
  }

  /**
   * Resolves at the next change.
   * @throws the signal's reason
   */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", abort);
      };
      const wake = (): void => {
        done();
        resolve();
      };
      const abort = (): void => {
        done();
        reject(signal.reason);
      };
      if (signal.aborted) return reject(signal.reason);
      this.#waiting.add(wake);
      signal.addEventListener("abort", abort, { once: true });
    });
  }
}
