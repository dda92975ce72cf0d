import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BucketSize, TokenBuckets } from "./token-buckets.ts";

class SteppedClock {
  ms = 0;
  monotonic(): number {
    return this.ms;
  }
}

const SMALL = { perSecond: 2, burst: 3 };

/** The bucket as one would draw it: tokens in exact fractions of a microsecond's share. */
class Model {
  #tokens: bigint;
  #at = 0n;
  readonly #each: bigint;
  readonly #burst: bigint;

  constructor({ perSecond, burst }: BucketSize) {
    this.#each = BigInt(Math.ceil(1_000_000 / perSecond));
    this.#burst = BigInt(burst) * this.#each;
    this.#tokens = this.#burst;
  }

  take(atMicros: number): boolean {
    const at = BigInt(atMicros);
    this.#tokens += at - this.#at;
    this.#at = at;
    if (this.#tokens > this.#burst) this.#tokens = this.#burst;
    if (this.#tokens < this.#each) return false;
    this.#tokens -= this.#each;
    return true;
  }
}

const size = fc.record({
  perSecond: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 1_000_000 })),
  burst: fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 100_000 })),
});
/** Milliseconds until the next request, often none. */
const gaps = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2000 }), fc.constant(0.0625)), {
  maxLength: 200,
});

test("a bucket gives away exactly what a drawn one does", () => {
  fc.assert(
    fc.property(size, gaps, (bucket, waits) => {
      const clock = new SteppedClock();
      const buckets = new TokenBuckets(clock, 10);
      const model = new Model(bucket);
      for (const gap of waits) {
        clock.ms += gap;
        expect(buckets.take("a", bucket) === undefined).toBe(model.take(Math.floor(clock.ms * 1000)));
      }
    }),
  );
});

test("in no stretch of time more than burst + rate × time are given away", () => {
  fc.assert(
    fc.property(size, gaps, (bucket, waits) => {
      const clock = new SteppedClock();
      const buckets = new TokenBuckets(clock, 10);
      const given: number[] = [];
      for (const gap of waits) {
        clock.ms += gap;
        if (buckets.take("a", bucket) === undefined) given.push(Math.floor(clock.ms * 1000));
      }
      for (const [i, from] of given.entries())
        for (const [j, to] of given.entries())
          if (j >= i)
            expect((j - i + 1 - bucket.burst) * 1_000_000).toBeLessThanOrEqual((to - from) * bucket.perSecond);
    }),
    { numRuns: 50 },
  );
});

test("whoever waits as long as is said gets the next token, and not before", () => {
  fc.assert(
    fc.property(size, fc.integer({ min: 0, max: 5 }), (bucket, more) => {
      const clock = new SteppedClock();
      const buckets = new TokenBuckets(clock, 10);
      while (buckets.take("a", bucket) === undefined);
      for (let n = 0; n <= more; n++) {
        const seconds = buckets.take("a", bucket);
        if (seconds === undefined) throw new Error("there was a token");
        const micros = Math.round(seconds * 1_000_000);
        clock.ms = (Math.round(clock.ms * 1000) + micros - 1) / 1000 + 0.0001;
        expect(buckets.wait("a", bucket)).toBeDefined();
        clock.ms += 0.001;
        expect(buckets.take("a", bucket)).toBeUndefined();
      }
    }),
    { numRuns: 50 },
  );
});

describe("many keys", () => {
  test("have a bucket each", () => {
    const buckets = new TokenBuckets(new SteppedClock(), 10);
    for (const key of ["a", "b"]) for (let n = 0; n < 3; n++) expect(buckets.take(key, SMALL)).toBeUndefined();
    for (const key of ["a", "b"]) expect(buckets.take(key, SMALL)).toBe(0.5);
  });

  test("are forgotten when their buckets are full, and never are more remembered than is allowed", () => {
    const clock = new SteppedClock();
    const buckets = new TokenBuckets(clock, 100);
    for (let n = 0; n < 10_000; n++) {
      clock.ms += 10;
      expect(buckets.take(`key ${n}`, SMALL)).toBeUndefined();
      expect(buckets.remembered).toBeLessThanOrEqual(51);
    }
  });

  test("beyond what is remembered share one, and the others keep theirs", () => {
    const clock = new SteppedClock();
    const buckets = new TokenBuckets(clock, 100);
    for (let n = 0; n < 100; n++) buckets.take(`key ${n}`, SMALL);
    const given = Array.from({ length: 1000 }, (_, n) => buckets.take(`late ${n}`, SMALL)).filter(
      (wait) => wait === undefined,
    );
    expect(given).toHaveLength(SMALL.burst);
    expect(buckets.remembered).toBe(101);
    expect([buckets.take("key 5", SMALL), buckets.take("key 5", SMALL), buckets.take("key 5", SMALL)]).toEqual([
      undefined,
      undefined,
      0.5,
    ]);
    clock.ms += 10_000;
    for (let n = 0; n < 60; n++) expect(buckets.take(`later ${n}`, SMALL)).toBeUndefined();
  });
});

test("what was charged beyond the bucket has to flow in first", () => {
  const clock = new SteppedClock();
  const buckets = new TokenBuckets(clock, 10);
  for (let n = 0; n < 5; n++) buckets.charge("a", SMALL);
  expect(buckets.wait("a", SMALL)).toBe(1.5);
  clock.ms += 1499;
  expect(buckets.wait("a", SMALL)).toBeCloseTo(0.001);
  clock.ms += 1;
  expect(buckets.wait("a", SMALL)).toBeUndefined();
});

test("a bucket that has become smaller is not emptier than empty", () => {
  const buckets = new TokenBuckets(new SteppedClock(), 10);
  const slow = { perSecond: 1, burst: 1000 };
  while (buckets.take("a", slow) === undefined);
  expect(buckets.take("a", { perSecond: 10, burst: 10 })).toBeCloseTo(0.1);
});

test("without a limit nothing is counted", () => {
  const buckets = new TokenBuckets(new SteppedClock(), 10);
  for (const size of [
    { perSecond: Number.POSITIVE_INFINITY, burst: 1 },
    { perSecond: 1, burst: Number.POSITIVE_INFINITY },
  ]) {
    for (let n = 0; n < 100; n++) expect(buckets.take("a", size)).toBeUndefined();
    buckets.charge("a", size);
    expect(buckets.wait("a", size)).toBeUndefined();
  }
  expect(buckets.remembered).toBe(0);
});
