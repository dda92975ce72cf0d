import { setImmediate as turn } from "node:timers/promises";
import type { FakeProcess } from "./machine.ts";

/** A call of the driver, of a prepared VMM or of a VMM. */
export type Operation =
  | "boot"
  | "prepare"
  | "restore"
  | "verifyMemory"
  | "adopt"
  | "destroy"
  | "createLayer"
  | "mergeLayers"
  | "run"
  | "pause"
  | "running"
  | "saveDevices"
  | "saveMemory"
  | "freeze"
  | "switchDisk"
  | "kill";

/** A call that goes on when the test says so. */
export interface Held {
  /** Resolves when the call has got there. */
  readonly reached: Promise<void>;
  release(): void;
}

interface Fault {
  readonly operation: Operation;
  /** Calls that come before the one that it is for. */
  before: number;
  readonly strike: (process: FakeProcess | undefined, signal: AbortSignal | undefined) => Promise<void>;
}

/**
 * What is to go wrong. A fault meets its call where that hurts: files are half written, memory is half loaded. Each
 * strikes once.
 */
export class Faults {
  readonly #armed: Fault[] = [];

  /** The nth call from now throws. */
  fail(operation: Operation, error: Error, nth = 1): void {
    this.#arm(operation, nth, async () => {
      throw error;
    });
  }

  /** The disk is full when the nth call from now is half through. */
  fillDisk(operation: Operation, nth = 1): void {
    this.fail(operation, Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" }), nth);
  }

  /** The process is killed when the nth call from now is half through. */
  die(operation: Operation, nth = 1): void {
    this.#arm(operation, nth, async (process) => process?.end("was killed by SIGKILL"));
  }

  /** The nth call from now stands still, until it is released, aborted or its process ends. */
  hold(operation: Operation, nth = 1): Held {
    const reached = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    this.#arm(operation, nth, async (process, signal) => {
      reached.resolve();
      const aborted = Promise.withResolvers<void>();
      signal?.addEventListener("abort", () => aborted.resolve(), { once: true });
      await Promise.race([released.promise, aborted.promise, ...(process ? [process.ended] : [])]);
    });
    return { reached: reached.promise, release: released.resolve };
  }

  /** How many have not met their call yet. */
  get armed(): number {
    return this.#armed.length;
  }

  /** Called half way through each call. */
  async meet(operation: Operation, process: FakeProcess | undefined, signal: AbortSignal | undefined): Promise<void> {
    await turn(); // no call is done at once
    const due = this.#armed.filter((fault) => fault.operation === operation && fault.before-- === 0);
    for (const fault of due) this.#armed.splice(this.#armed.indexOf(fault), 1);
    for (const fault of due) await fault.strike(process, signal);
  }

  #arm(operation: Operation, nth: number, strike: Fault["strike"]): void {
    this.#armed.push({ operation, before: nth - 1, strike });
  }
}
