import { createHash } from "node:crypto";
import type { Clock } from "../lib/clock.ts";
import { conflict } from "../lib/errors.ts";
import { KeyedMutex } from "../lib/mutex.ts";
import type { IdempotencyKey, RecordedAnswer } from "../store/idempotency-tokens.ts";
import type { Store, StoreWriter } from "../store/store.ts";

/** Records an operation's answer under its client token, in the transaction that makes what the answer tells of. */
export type RecordAnswer = (write: StoreWriter) => Promise<void>;

/**
 * Operations with a client token act once: the same request gets the first answer again, also after a restart, and a
 * different one under the same token is refused.
 */
export class Idempotency {
  readonly #store: Pick<Store, "idempotencyTokens">;
  readonly #clock: Clock;
  readonly #mutex = new KeyedMutex<string>();

  constructor(store: Pick<Store, "idempotencyTokens">, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /**
   * `act` hands its answer to `recorder`, and runs what it gets back in the writing transaction. With a `resource` the
   * token is forgotten when that is gone: the same request then makes it anew.
   * @throws TorporError `conflict` when the token was used for another request
   */
  async once<I extends { readonly clientToken?: string | null | undefined }, O extends object>(
    operation: string,
    accountId: string,
    input: I,
    act: (recorder: (answer: O, resource?: string) => RecordAnswer) => Promise<O>,
  ): Promise<O> {
    const { clientToken: token, ...request } = input;
    if (!token) return await act(() => async () => {});
    const key = { accountId, operation, token };
    const requestDigest = createHash("sha256").update(canonicalJson(request)).digest("hex");
    return await this.#mutex.run(`${accountId} ${operation} ${token}`, async () => {
      const known = await this.#store.idempotencyTokens.find(key);
      if (known) return replay<O>(known, requestDigest);
      return await act((answer, resource) =>
        this.#recorder(key, { requestDigest, response: encode(answer) }, resource ?? null),
      );
    });
  }

  #recorder(key: IdempotencyKey, answer: RecordedAnswer, resource: string | null): RecordAnswer {
    return async (write) => {
      if (await write.idempotencyTokens.insert(key, answer, new Date(this.#clock.now()), resource)) return;
      // Another server on the same database was faster; its answer is there for the client's next try.
      throw conflict("A request with this clientToken is being processed. Try again.");
    };
  }
}

function replay<O extends object>(known: RecordedAnswer, requestDigest: string): O {
  if (known.requestDigest !== requestDigest)
    throw conflict("The clientToken was already used for a request with different parameters.");
  return decode<O>(known.response);
}

/** The same text for the same request: keys sorted, what is absent left out whether it was null or missing. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .filter(([, member]) => member !== undefined && member !== null)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(",")}}`;
  }
  return JSON.stringify(value ?? null);
}

// Answers are JSON but for their Dates, which become {"$date": milliseconds}: no answer has a number under that name.

function encode(answer: object): string {
  return JSON.stringify(answer, function (this: Record<string, unknown>, name, value: unknown) {
    const original = this[name]; // JSON.stringify has turned a Date into a text before it asks
    return original instanceof Date ? { $date: original.getTime() } : value;
  });
}

function decode<O extends object>(text: string): O {
  return JSON.parse(text, (_, value: unknown) =>
    typeof value === "object" && value !== null && "$date" in value && typeof value.$date === "number"
      ? new Date(value.$date)
      : value,
  ) as O;
}
