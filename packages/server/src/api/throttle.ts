import type { IncomingMessage } from "node:http";
import type { Rates } from "../control/request-context.ts";
import type { Clock } from "../lib/clock.ts";
import { TorporError } from "../lib/errors.ts";
import { TokenBuckets } from "../lib/token-buckets.ts";
import { claimedKey } from "./sigv4/authorization.ts";
import { sourceOf } from "./source-address.ts";

const MOST_BUCKETS = 20_000;
/** Keys that have signed requests from an address, remembered with it. */
const MOST_ACQUAINTANCES = 10_000;

/** Where a request comes from, and which key it says to be signed with. */
export interface Origin {
  readonly source: string;
  readonly pair: string;
}

export function originOf(request: IncomingMessage): Origin {
  const source = sourceOf(request.socket.remoteAddress);
  return { source, pair: `${source} ${claimedKey(request.rawHeaders, request.url ?? "") ?? ""}` };
}

/**
 * How often may be asked: each account for each operation; and strangers, whose signatures are not looked at any more
 * once too many from their address were wrong. A key that has signed from there before has a bucket of its own, so that
 * a stranger does not keep out those who share the address with them. Nothing here waits or reads.
 */
export class Throttle {
  readonly #rates: Rates;
  readonly #ofAccounts: TokenBuckets;
  readonly #ofStrangers: TokenBuckets;
  /** Least recently seen first. */
  readonly #acquaintances = new Set<string>();

  constructor(rates: Rates, clock: Clock) {
    this.#rates = rates;
    this.#ofAccounts = new TokenBuckets(clock, MOST_BUCKETS);
    this.#ofStrangers = new TokenBuckets(clock, MOST_BUCKETS);
  }

  /** Before anything of the request is read. @throws TorporError `throttled` */
  admit(origin: Origin): void {
    const wait = this.#ofStrangers.wait(this.#bucketOf(origin), this.#rates.stranger());
    if (wait !== undefined)
      throw throttled(wait, "Too many requests from this address were not signed by a known key.");
  }

  /** The request turned out to be signed by nobody we know. */
  stranger(origin: Origin): void {
    this.#ofStrangers.charge(this.#bucketOf(origin), this.#rates.stranger());
  }

  /** The request is signed by the key that it names. */
  acquaintance({ pair }: Origin): void {
    this.#acquaintances.delete(pair);
    this.#acquaintances.add(pair);
    if (this.#acquaintances.size <= MOST_ACQUAINTANCES) return;
    for (const oldest of this.#acquaintances) {
      this.#acquaintances.delete(oldest);
      return;
    }
  }

  /** @throws TorporError `throttled` */
  operation(accountId: string, operation: string): void {
    const { bucket, ...size } = this.#rates.operation(accountId, operation);
    const wait = this.#ofAccounts.take(`${accountId} ${bucket}`, size);
    if (wait !== undefined)
      throw throttled(wait, `Rate exceeded: this account may call ${bucket} ${size.perSecond} times a second.`);
  }

  #bucketOf({ source, pair }: Origin): string {
    return this.#acquaintances.has(pair) ? pair : source;
  }
}

const throttled = (wait: number, why: string): TorporError =>
  new TorporError("throttled", `${why} Try again in ${Math.ceil(wait)} s.`, { retryAfterSeconds: Math.ceil(wait) });
