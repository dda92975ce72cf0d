import type { Clock } from "./clock.ts";

/** A bucket of `burst` tokens into which `perSecond` flow; neither is below 1. Infinity: there is no bucket. */
export interface BucketSize {
  readonly perSecond: number;
  readonly burst: number;
}

/**
 * A token bucket for each key. A bucket is one number, the time at which it will be full (the generic cell rate
 * algorithm), in whole microseconds: nothing is rounded, so that in any time t no more than burst + t × perSecond tokens
 * are taken. A full bucket is the same as none, and forgotten. Where more are wanted than can be remembered, new keys of
 * one size share a bucket: too little for some rather than too much for all.
 */
export class TokenBuckets {
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #most: number;
  /** Least recently used first. */
  readonly #fullAt = new Map<string, number>();

  /** @param most buckets that are remembered */
  constructor(clock: Pick<Clock, "monotonic">, most: number) {
    this.#clock = clock;
    this.#most = most;
  }

  /** Takes a token; when there is none, returns how many seconds it will be until there is. */
  take(key: string, size: BucketSize): number | undefined {
    if (isUnlimited(size)) return undefined;
    const now = this.#now();
    const place = this.#place(key, size, now);
    const each = microsEach(size);
    // An earlier size may have left it emptier than a bucket of this one can be.
    const before = Math.min(Math.max(this.#fullAt.get(place) ?? 0, now), now + size.burst * each);
    const missing = before + each - (now + size.burst * each);
    if (missing > 0) return missing / 1_000_000;
    this.#put(place, before + each);
    return undefined;
  }

  /** How many seconds it will be until there is a token; undefined when there is one. */
  wait(key: string, size: BucketSize): number | undefined {
    if (isUnlimited(size)) return undefined;
    const now = this.#now();
    const each = microsEach(size);
    const fullAt = Math.max(this.#fullAt.get(this.#place(key, size, now)) ?? 0, now);
    const missing = fullAt + each - (now + size.burst * each);
    return missing > 0 ? missing / 1_000_000 : undefined;
  }

  /** Takes a token whether there is one or not: what is owed has to flow in before there is another. */
  charge(key: string, size: BucketSize): void {
    if (isUnlimited(size)) return;
    const now = this.#now();
    const place = this.#place(key, size, now);
    this.#put(place, Math.max(this.#fullAt.get(place) ?? 0, now) + microsEach(size));
  }

  get remembered(): number {
    return this.#fullAt.size;
  }

  /** Where the key's bucket is, or is to be. */
  #place(key: string, size: BucketSize, now: number): string {
    if (this.#fullAt.has(key)) return key;
    this.#forget(now);
    return this.#fullAt.size < this.#most ? key : `\0${size.perSecond}/${size.burst}`;
  }

  /** The oldest two, if they are full by now: each key that comes makes room for more than itself. */
  #forget(now: number): void {
    let looked = 0;
    for (const [key, fullAt] of this.#fullAt) {
      if (fullAt <= now) this.#fullAt.delete(key);
      if (++looked === 2) return;
    }
  }

  #put(place: string, fullAt: number): void {
    this.#fullAt.delete(place);
    this.#fullAt.set(place, fullAt);
  }

  #now(): number {
    return Math.floor(this.#clock.monotonic() * 1000);
  }
}

const isUnlimited = ({ perSecond, burst }: BucketSize): boolean =>
  !Number.isFinite(perSecond) || !Number.isFinite(burst);

/** Between two tokens that flow in: rounded up, so that there are never more than `perSecond`. */
const microsEach = ({ perSecond }: BucketSize): number => Math.ceil(1_000_000 / perSecond);
