import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { LogEvent } from "../event.ts";
import type { LogTarget } from "../names.ts";

export interface ForwardedEvent {
  readonly target: LogTarget;
  readonly event: LogEvent;
}

/** A service elsewhere that takes log events. */
export interface Exporter {
  /** For people. */
  readonly name: string;
  /** Events with the same key are sent together and in order; one key at a time, different keys side by side. */
  keyOf(target: LogTarget): string;
  /** Ends a batch before its events span more than that. */
  readonly mostMs: number;
  /** @throws RefusedError when trying again is no use; anything else is tried again */
  send(events: readonly ForwardedEvent[], signal: AbortSignal): Promise<void>;
  close(): void;
}

/** The service will never take these events. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
}

/** Try again, but not before this time has passed. */
export class BusyError extends Error {
  override readonly name = "BusyError";
  readonly retryAfterMs: number | undefined;
  constructor(message: string, retryAfterMs?: number) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

export interface ForwarderOptions {
  readonly exporter: Exporter;
  readonly clock: Clock;
  readonly log: Log;
  /** Of 0 to 1. */
  readonly random?: () => number;
  readonly bufferBytes?: number;
}

/** What waits for a service that does not answer; then the oldest goes. */
const BUFFER_BYTES = 16 << 20;
const BATCH_EVENTS = 1000;
const BATCH_BYTES = 512 * 1024;
/** Counted for an event beside its text. */
const OVERHEAD = 64;
/** What comes within so short a time goes together. */
const GATHER_MS = 500;
const SENDERS = 4;
const SEND_MS = 30_000;
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [1000, 60_000];
const CLOSE_MS = 3000;

/**
 * Sends events on, in the background and as well as it goes: what waits is bounded, failures are tried again with growing
 * pauses, and nobody who writes ever waits for it. What it has not sent when the server ends is not sent.
 */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #queues = new Map<string, ForwardedEvent[]>();
  readonly #sending = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #senders: Promise<void>[];
  /** Wakes senders that have nothing to do. */
  #wake = Promise.withResolvers<void>();
  #bytes = 0;
  #dropped = 0;
  #closing = false;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#senders = Array.from({ length: SENDERS }, () => this.#work());
  }

  add(target: LogTarget, events: readonly LogEvent[]): void {
    if (this.#closing) return;
    const key = this.#options.exporter.keyOf(target);
    const queue = this.#queues.get(key) ?? [];
    this.#queues.set(key, queue);
    for (const event of events) {
      queue.push({ target, event });
      this.#bytes += sizeOf(event);
    }
    const most = this.#options.bufferBytes ?? BUFFER_BYTES;
    for (const [oldest, waiting] of this.#queues) {
      while (this.#bytes > most && waiting.length > 0) {
        this.#bytes -= sizeOf(waiting.shift()!.event);
        this.#dropped++;
      }
      if (waiting.length === 0) this.#queues.delete(oldest);
      if (this.#bytes <= most) break;
    }
    this.#wakeAll();
  }

  /** Gives what waits a moment to be sent. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#wakeAll();
    const { clock, exporter, log } = this.#options;
    const giveUp = clock.after(CLOSE_MS, () => this.#stopping.abort(new Error("the server is closing")));
    await Promise.all(this.#senders);
    giveUp();
    exporter.close();
    let left = this.#dropped;
    for (const queue of this.#queues.values()) left += queue.length;
    if (left > 0) log.warn({ exporter: exporter.name, events: left }, "log events not forwarded");
  }

  async #work(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const key = [...this.#queues.keys()].find((one) => !this.#sending.has(one));
      if (key === undefined) {
        if (this.#closing) return;
        await this.#wake.promise;
        continue;
      }
      this.#sending.add(key);
      try {
        if (!this.#closing && (this.#queues.get(key)?.length ?? 0) < BATCH_EVENTS) await this.#gather();
        await this.#sendBatch(key);
      } finally {
        this.#sending.delete(key);
        this.#wakeAll();
      }
    }
  }

  async #gather(): Promise<void> {
    await pause(this.#options.clock, GATHER_MS, this.#stopping.signal).catch(() => {});
  }

  async #sendBatch(key: string): Promise<void> {
    const { exporter, log } = this.#options;
    const batch = this.#take(key);
    if (batch.length === 0) return;
    const { signal } = this.#stopping;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pauseMs)) {
      try {
        signal.throwIfAborted();
        await exporter.send(batch, AbortSignal.any([signal, AbortSignal.timeout(SEND_MS)]));
        this.#reportDropped();
        return;
      } catch (err) {
        if (signal.aborted) {
          this.#dropped += batch.length;
          return;
        }
        if (err instanceof RefusedError) {
          this.#dropped += batch.length;
          log.warn({ err, exporter: exporter.name, events: batch.length }, "log events refused");
          return;
        }
        if (pauseMs === FIRST_PAUSE_MS)
          log.warn({ err, exporter: exporter.name }, "log events not taken, to be repeated");
        await this.#waitLonger(err, pauseMs);
      }
    }
  }

  /** Between half of it and all, so that not all come back at once. */
  async #waitLonger(err: unknown, pauseMs: number): Promise<void> {
    const { clock, random = Math.random } = this.#options;
    const least = err instanceof BusyError ? Math.min(err.retryAfterMs ?? 0, LONGEST_PAUSE_MS) : 0;
    const ms = Math.max(least, pauseMs * (0.5 + random() / 2));
    await pause(clock, ms, this.#stopping.signal).catch(() => {});
  }

  #take(key: string): ForwardedEvent[] {
    const queue = this.#queues.get(key) ?? [];
    const first = queue[0]?.event.time ?? 0;
    let [count, bytes] = [0, 0];
    for (const { event } of queue) {
      const size = sizeOf(event);
      const full = count >= BATCH_EVENTS || bytes + size > BATCH_BYTES;
      if (count > 0 && (full || event.time - first > this.#options.exporter.mostMs)) break;
      count++;
      bytes += size;
    }
    this.#bytes -= bytes;
    const batch = queue.splice(0, count);
    if (queue.length === 0) this.#queues.delete(key);
    return batch;
  }

  #reportDropped(): void {
    if (this.#dropped === 0) return;
    const { exporter, log } = this.#options;
    log.warn({ exporter: exporter.name, events: this.#dropped }, "log events not forwarded");
    this.#dropped = 0;
  }

  #wakeAll(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}

const sizeOf = ({ text }: LogEvent): number => Buffer.byteLength(text) + OVERHEAD;
