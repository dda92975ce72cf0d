import type { Clock } from "../../../lib/clock.ts";
import { errnoOf, messageOf } from "../../../lib/errors.ts";
import type { Log } from "../../../lib/log.ts";
import { TokenBuckets } from "../../../lib/token-buckets.ts";
import { Listener, type ListenerOptions } from "./listener.ts";
import { type LookupRules, lookUp } from "./lookup.ts";
import { encodeReply, parseQuery, type Query, type Reply } from "./message.ts";
import { Openings } from "./openings.ts";
import { askUpstream, type UpstreamAddress } from "./upstream.ts";

/** Of one guest. A page of a browser asks for some dozens of names at once. */
const QUERIES = { perSecond: 100, burst: 400 };
const MAX_PENDING = 64;
const ANSWER_MS = 9000;
const MAX_TCP_BYTES = 65_535;

export interface ForwarderDeps {
  /** Undefined: nothing resolves. */
  readonly upstream: UpstreamAddress | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Client extends ListenerOptions, LookupRules {
  /** Runs nft in the guest's slot. */
  readonly apply: (nft: string) => Promise<void>;
}

/**
 * The name server of guests whose reach depends on names. It asks the host's in words of its own, answers with what it
 * has understood, and opens in the guest's slot what it answers. A guest that has asked too much is not answered.
 */
export class Forwarder {
  readonly #deps: ForwarderDeps;
  readonly #buckets: TokenBuckets;
  readonly #listeners = new Map<number, Listener>();
  readonly #stopping = new AbortController();

  constructor(deps: ForwarderDeps) {
    this.#deps = deps;
    this.#buckets = new TokenBuckets(deps.clock, 20_000);
  }

  /** @param slot number of the guest's @throws Error when it cannot listen there */
  async serve(slot: number, client: Client): Promise<void> {
    await this.stop(slot);
    const openings = new Openings(this.#deps.clock, client.apply);
    let pending = 0;
    const answer = async (bytes: Uint8Array, transport: "udp" | "tcp"): Promise<Uint8Array | undefined> => {
      if (pending >= MAX_PENDING || this.#buckets.take(String(slot), QUERIES) !== undefined) return undefined;
      const parsed = parseQuery(bytes);
      if (!parsed || "refusal" in parsed) return parsed?.refusal;
      pending++;
      try {
        const reply = await this.#reply(parsed.query, client, openings);
        return encodeReply(parsed.query, reply, transport === "udp" ? parsed.query.udpBytes : MAX_TCP_BYTES);
      } catch (err) {
        this.#deps.log.warn({ err, slot }, "a guest's question not answered");
        return undefined;
      } finally {
        pending--;
      }
    };
    try {
      this.#listeners.set(slot, await Listener.open(client, answer));
    } catch (err) {
      const taken = errnoOf(err) === "EADDRINUSE" ? ": another program listens there on all addresses" : "";
      throw new Error(
        `the name server of slot ${slot} cannot listen on ${client.address} port ${client.port}${taken}: ${messageOf(err)}`,
        { cause: err },
      );
    }
  }

  async stop(slot: number): Promise<void> {
    const listener = this.#listeners.get(slot);
    this.#listeners.delete(slot);
    await listener?.[Symbol.asyncDispose]();
  }

  async close(): Promise<void> {
    this.#stopping.abort(new Error("the server is closing"));
    await Promise.all([...this.#listeners.keys()].map((slot) => this.stop(slot)));
  }

  async #reply(query: Query, client: Client, openings: Openings): Promise<Reply> {
    const { upstream, log } = this.#deps;
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(ANSWER_MS)]);
    try {
      const { reply, openings: wanted } = await lookUp(query, client, async (name, type) => {
        if (!upstream) throw new Error("the host has no name server that guests could reach");
        return await askUpstream(upstream, name, type, signal);
      });
      await openings.open(wanted);
      return reply;
    } catch (err) {
      if (!this.#stopping.signal.aborted) log.debug({ err }, "a guest's name not resolved");
      return { rcode: "SERVFAIL", answers: [] };
    }
  }
}
