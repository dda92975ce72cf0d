import type { Clock } from "../../../lib/clock.ts";
import { NAME_SET_SIZE } from "../rules.ts";
import type { Opening } from "./lookup.ts";

/** A program may take its time between the answer and the connection. */
const LEAST_SECONDS = 60;
const GRACE_SECONDS = 30;

/**
 * The addresses that a slot's sets hold, as far as we know: after a restart of the server they hold more than that.
 * What comes while the kernel is being told waits for the next time, and shares it.
 */
export class Openings {
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #apply: (nft: string) => Promise<void>;
  /** Monotonic milliseconds, by `set address`. */
  readonly #until = new Map<string, number>();
  #waiting: { readonly openings: Opening[]; readonly done: Promise<void> } | undefined;
  #going: Promise<void> = Promise.resolve();

  constructor(clock: Pick<Clock, "monotonic">, apply: (nft: string) => Promise<void>) {
    this.#clock = clock;
    this.#apply = apply;
  }

  /**
   * Resolves when all of them are open, and will be for as long as they say.
   * @throws Error when the kernel refuses, or there are too many
   */
  async open(openings: readonly Opening[]): Promise<void> {
    const now = this.#clock.monotonic();
    const missing = openings.filter(({ set, address, seconds }) => {
      return (this.#until.get(`${set} ${address}`) ?? 0) < now + 1000 * Math.max(seconds, GRACE_SECONDS);
    });
    if (missing.length === 0) return;
    if (!this.#waiting) {
      const batch: Opening[] = [];
      const done = this.#going.then(() => {
        this.#waiting = undefined;
        return this.#tell(batch);
      });
      this.#going = done.catch(() => {});
      this.#waiting = { openings: batch, done };
    }
    this.#waiting.openings.push(...missing);
    await this.#waiting.done;
  }

  async #tell(openings: readonly Opening[]): Promise<void> {
    const now = this.#clock.monotonic();
    for (const [key, until] of this.#until) if (until <= now) this.#until.delete(key);
    if (this.#until.size + openings.length > NAME_SET_SIZE)
      throw new Error(`more than ${NAME_SET_SIZE} addresses would be open by name`);
    const timeouts = new Map<string, number>();
    for (const { set, address, seconds } of openings) {
      const key = `${set} { ${address}`;
      timeouts.set(key, Math.max(timeouts.get(key) ?? LEAST_SECONDS, seconds));
    }
    const lines = [...timeouts].flatMap(([key, seconds]) => {
      const timeout = seconds + GRACE_SECONDS;
      // An element that is there keeps its old time otherwise, and one that is not cannot be deleted.
      return [
        `add element ip torpor ${key} }`,
        `delete element ip torpor ${key} }`,
        `add element ip torpor ${key} timeout ${timeout}s }`,
      ];
    });
    await this.#apply(`${lines.join("\n")}\n`);
    for (const { set, address, seconds } of openings)
      this.#until.set(`${set} ${address}`, now + 1000 * (Math.max(seconds, LEAST_SECONDS) + GRACE_SECONDS));
  }
}
