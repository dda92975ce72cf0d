import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { errnoOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { pause } from "../lib/pause.ts";
import type { LogEvent, NewLine } from "./event.ts";
import { type GroupHooks, LogGroup } from "./group.ts";
import { ACCOUNT, compareNames, FOLDER, folderOf, type LogTarget } from "./names.ts";
import type { LogStream } from "./stream.ts";

export interface LogStoreOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** What is older goes. */
  readonly retentionMs: number;
  /** Of one account: the oldest goes. */
  readonly maxBytes: number;
  /** Of one account; a new one takes the place of the one that was quiet for longest. */
  readonly maxGroups?: number;
  readonly maxStreams?: number;
}

/** Events that were taken, and whether the disk took them too. */
export type Listener = (target: LogTarget, stream: LogStream, events: readonly LogEvent[], kept: boolean) => void;

const MOST_GROUPS = 500;
const MOST_STREAMS = 10_000;
const UPKEEP_MS = 60_000;
/** Between two warnings about a disk that does not take lines. */
const WARN_MS = 60_000;

/**
 * Log groups and streams of all accounts, in files: an account, a group and a stream are folders, a stream's lines are in
 * files of JSON lines. Nothing is synced to disk for a line: a power failure may cost the newest, a crash of the server
 * costs none that was written.
 */
export class LogStore {
  readonly #folder: string;
  readonly #options: LogStoreOptions;
  readonly #accounts = new Map<string, Map<string, LogGroup>>();
  readonly #listeners = new Set<Listener>();
  readonly #hooks: GroupHooks;
  #warnedAt = Number.NEGATIVE_INFINITY;
  #trimming: Promise<void> | undefined;
  /** Folders that are being removed. */
  #removals: Promise<void> = Promise.resolve();
  /** Bytes taken since the last look at how much there is. */
  #grown = 0;

  private constructor(folder: string, options: LogStoreOptions) {
    this.#folder = folder;
    this.#options = options;
    this.#hooks = {
      now: () => options.clock.now(),
      cleared: () => this.#removals,
      written: (group, stream, events, kept, err) => this.#written(group, stream, events, kept, err),
    };
  }

  static async open(folder: string, options: LogStoreOptions): Promise<LogStore> {
    const store = new LogStore(folder, options);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const accountId of (await readdir(folder)).filter((name) => ACCOUNT.test(name))) {
      const path = join(folder, accountId);
      for (const name of (await readdir(path)).filter((entry) => FOLDER.test(entry))) {
        const group = await LogGroup.open(accountId, join(path, name), store.#hooks);
        if (group && folderOf(group.name) === name) store.#groupsOf(accountId).set(group.name, group);
      }
    }
    return store;
  }

  /**
   * Takes a line. Resolves when there is room for the next one, which is at once unless the disk is slow. Never rejects: a
   * full disk loses lines, and says how many.
   */
  append({ accountId, group, stream }: LogTarget, line: NewLine): Promise<void> {
    return this.#stream(accountId, group, stream).append(line);
  }

  /** By name. */
  groups(accountId: string): readonly LogGroup[] {
    const groups = [...(this.#accounts.get(accountId)?.values() ?? [])];
    return groups.filter(({ streams }) => streams.size > 0).sort((a, b) => compareNames(a.name, b.name));
  }

  /** Undefined when there is none of this account's. */
  group(accountId: string, name: string): LogGroup | undefined {
    const group = this.#accounts.get(accountId)?.get(name);
    return group && group.streams.size > 0 ? group : undefined;
  }

  /** @returns what ends it */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Keeps within the bounds until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      await this.trim();
      for (const groups of this.#accounts.values())
        for (const group of groups.values())
          await group.settle().catch((err: unknown) => log.debug({ err }, "log index not written"));
      await pause(clock, UPKEEP_MS, signal).catch(() => {});
    }
  }

  /** What is too old or too much goes. Never rejects. */
  trim(): Promise<void> {
    this.#trimming ??= this.#trim()
      .catch((err: unknown) => this.#options.log.error({ err }, "old log lines not removed"))
      .finally(() => {
        this.#trimming = undefined;
      });
    return this.#trimming;
  }

  /** Resolves when every line that was taken is written, or lost. */
  async settled(): Promise<void> {
    for (const groups of this.#accounts.values())
      for (const group of groups.values()) for (const stream of group.streams.values()) await stream.settled();
  }

  async close(): Promise<void> {
    await this.settled();
    await this.#trimming;
    await this.#removals;
    for (const groups of this.#accounts.values())
      for (const group of groups.values())
        await group.settle().catch((err: unknown) => this.#options.log.debug({ err }, "log index not written"));
  }

  #stream(accountId: string, groupName: string, streamName: string): LogStream {
    if (!ACCOUNT.test(accountId)) throw new TypeError(`${accountId} is no account`);
    const groups = this.#groupsOf(accountId);
    let group = groups.get(groupName);
    if (!group) {
      if (groups.size >= (this.#options.maxGroups ?? MOST_GROUPS)) this.#forgetQuietestGroup(groups);
      const folder = join(this.#folder, accountId, folderOf(groupName));
      const createdAt = this.#options.clock.now();
      group = new LogGroup({ accountId, name: groupName, createdAt, folder }, this.#hooks);
      groups.set(groupName, group);
    }
    if (!group.streams.has(streamName)) {
      let count = 0;
      for (const { streams } of groups.values()) count += streams.size;
      if (count >= (this.#options.maxStreams ?? MOST_STREAMS)) this.#forgetQuietestStream(groups);
    }
    return group.stream(streamName);
  }

  #groupsOf(accountId: string): Map<string, LogGroup> {
    const groups = this.#accounts.get(accountId) ?? new Map<string, LogGroup>();
    this.#accounts.set(accountId, groups);
    return groups;
  }

  #forgetQuietestGroup(groups: Map<string, LogGroup>): void {
    const newest = (group: LogGroup): number => {
      let latest = group.createdAt;
      for (const stream of group.streams.values()) latest = Math.max(latest, latestOf(stream));
      return latest;
    };
    const quietest = least([...groups.values()], newest);
    if (quietest) this.#removeGroup(groups, quietest);
  }

  #forgetQuietestStream(groups: Map<string, LogGroup>): void {
    const all = [...groups.values()].flatMap((group) =>
      [...group.streams.values()].map((stream) => ({ group, stream })),
    );
    const quietest = least(all, ({ stream }) => latestOf(stream));
    if (quietest) this.#removeStream(quietest.group, quietest.stream);
  }

  #removeGroup(groups: Map<string, LogGroup>, group: LogGroup): void {
    groups.delete(group.name);
    this.#removing(group.remove());
  }

  #removeStream(group: LogGroup, stream: LogStream): void {
    group.streams.delete(stream.name);
    this.#removing(stream.remove());
  }

  #removing(gone: Promise<void>): void {
    const logged = gone.catch((err: unknown) => this.#options.log.error({ err }, "old log lines not removed"));
    this.#removals = Promise.all([this.#removals, logged]).then(() => {});
  }

  async #trim(): Promise<void> {
    const { clock, retentionMs, maxBytes } = this.#options;
    this.#grown = 0;
    const oldest = clock.now() - retentionMs;
    for (const groups of this.#accounts.values()) {
      const all = [...groups.values()].flatMap((group) =>
        [...group.streams.values()].map((stream) => ({ group, stream })),
      );
      for (const { stream } of all)
        while ((stream.segments[0]?.lastIngested ?? Number.POSITIVE_INFINITY) < oldest) await stream.dropOldest();
      let bytes = all.reduce((sum, { stream }) => sum + stream.bytes, 0);
      while (bytes > maxBytes) {
        const victim = least(
          all.filter(({ stream }) => stream.segments.length > 0),
          ({ stream }) => stream.segments[0]!.lastIngested,
        );
        if (!victim) break;
        bytes -= victim.stream.segments[0]!.bytes;
        await victim.stream.dropOldest();
      }
      for (const { group, stream } of all)
        if (stream.segments.length === 0 && !stream.busy && stream.createdAt < oldest)
          this.#removeStream(group, stream);
      for (const group of groups.values())
        if (group.streams.size === 0 && group.createdAt < oldest) this.#removeGroup(groups, group);
    }
    await this.#removals;
  }

  #written(group: LogGroup, stream: LogStream, events: readonly LogEvent[], kept: boolean, err: unknown): void {
    const { clock, log, maxBytes } = this.#options;
    if (!kept && clock.monotonic() - this.#warnedAt >= WARN_MS) {
      this.#warnedAt = clock.monotonic();
      log.warn({ err, code: errnoOf(err), lines: events.length }, "log lines lost: they could not be written");
    }
    for (const { text } of events) this.#grown += text.length;
    if (this.#grown > maxBytes / 8) void this.trim();
    const target = { accountId: group.accountId, group: group.name, stream: stream.name };
    for (const listener of this.#listeners) listener(target, stream, events, kept);
  }
}

const latestOf = (stream: LogStream): number =>
  stream.busy ? Number.POSITIVE_INFINITY : (stream.lastIngested ?? stream.createdAt);

function least<T>(items: readonly T[], measure: (item: T) => number): T | undefined {
  let best: T | undefined;
  let lowest = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const value = measure(item);
    if (best === undefined || value < lowest) [best, lowest] = [item, value];
  }
  return best;
}
