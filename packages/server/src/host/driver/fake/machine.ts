import { randomUUID } from "node:crypto";
import { Faults } from "./faults.ts";
import type { GuestSoftware } from "./software.ts";
import type { FakeVm } from "./vm.ts";

/** No process of the real machine has such an id: whoever takes it for one hits nobody. */
const FIRST_PID = 5_000_000;

/** A process of the machine. */
export class FakeProcess {
  readonly pid: number;
  readonly startTime: string;
  /** What its command line says. */
  readonly name: string;
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
  /** What it is the VMM of. */
  vm: FakeVm | undefined;
  /** Another process of the same name, without anything of this one but its memory. */
  readonly fork: () => FakeProcess;
  readonly #resolve: (how: string) => void;
  readonly #onEnd: (() => void)[] = [];
  #alive = true;

  constructor(pid: number, startTime: string, name: string, fork: () => FakeProcess) {
    this.pid = pid;
    this.fork = fork;
    this.startTime = startTime;
    this.name = name;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise;
    this.#resolve = resolve;
  }

  get alive(): boolean {
    return this.#alive;
  }

  onEnd(callback: () => void): void {
    this.#onEnd.push(callback);
  }

  /** A no-op for one that has ended. */
  end(how: string): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const callback of this.#onEnd) callback();
    this.#resolve(how);
  }
}

/**
 * What outlives a server on a machine without VMs: processes, whose driver is a new one each time. Their files are real
 * and where any driver has them.
 */
export class FakeMachine {
  readonly faults = new Faults();
  readonly software: GuestSoftware;
  readonly bootId = randomUUID();
  readonly #processes = new Map<number, FakeProcess>();
  readonly #waiting: { readonly name: string; readonly seen: (process: FakeProcess) => void }[] = [];
  #next = FIRST_PID;

  constructor(software: GuestSoftware) {
    this.software = software;
  }

  spawn(name: string): FakeProcess {
    const pid = this.#next++;
    const process = new FakeProcess(pid, String(pid * 10), name, () => this.spawn(name));
    this.#processes.set(pid, process);
    for (const waiting of this.#waiting.filter((w) => w.name === name)) waiting.seen(process);
    return process;
  }

  process(pid: number): FakeProcess | undefined {
    const process = this.#processes.get(pid);
    return process?.alive ? process : undefined;
  }

  /** The processes that have not ended; of this name only, if one is given. */
  alive(name?: string): FakeProcess[] {
    return [...this.#processes.values()].filter((p) => p.alive && (name === undefined || p.name === name));
  }

  /** The next process of this name. */
  spawned(name: string): Promise<FakeProcess> {
    return new Promise((seen) => this.#waiting.push({ name, seen }));
  }
}
