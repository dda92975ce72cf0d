import { isIPv4 } from "node:net";

/** Counts what a microvm, or a client, has open, so that nobody takes more than its share of guest and host. */
export class Places {
  readonly #each: number;
  readonly #taken = new Map<string, number>();

  /** @param each places that each microvm, or client, has */
  constructor(each: number) {
    this.#each = each;
  }

  /** A place, given back when it is disposed of; undefined when there is none left. */
  take(whose: string): Disposable | undefined {
    const taken = this.#taken.get(whose) ?? 0;
    if (taken >= this.#each) return undefined;
    this.#taken.set(whose, taken + 1);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        const left = (this.#taken.get(whose) ?? 1) - 1;
        if (left > 0) this.#taken.set(whose, left);
        else this.#taken.delete(whose);
      },
    };
  }
}

/** What costs nobody a place. */
export const NO_PLACE: Disposable = { [Symbol.dispose]: () => {} };

/** Whose connection it is: the address, of IPv6 the network that one customer usually has. */
export function clientOf(address: string | undefined): string {
  if (address === undefined || isIPv4(address)) return address ?? "";
  const mapped = /^::ffff:([\d.]+)$/i.exec(address)?.[1];
  return mapped ?? `${groupsOf(address).slice(0, 4).join(":")}::/64`;
}

/** The eight groups of an IPv6 address, as the system writes them, without leading zeros. */
function groupsOf(address: string): string[] {
  const [before = "", after] = address.replace(/%.*$/, "").split("::");
  const head = before === "" ? [] : before.split(":");
  const tail = after === undefined || after === "" ? [] : after.split(":");
  return [...head, ...Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => "0"), ...tail];
}
