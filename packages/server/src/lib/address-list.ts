import { BlockList, isIP } from "node:net";

/** IP addresses and networks, as a setting names them. */
export class AddressList {
  readonly #list = new BlockList();
  readonly empty: boolean;

  /** @param text `10.0.0.0/8, 192.0.2.7, fd00::/8`; empty for none. @throws Error that names the part that is wrong */
  constructor(text: string) {
    const parts = text.split(",").map((part) => part.trim());
    const named = parts.filter((part) => part !== "");
    if (named.length !== parts.length && text.trim() !== "") throw new Error("expected networks separated by commas");
    for (const part of named) this.#add(part);
    this.empty = named.length === 0;
  }

  has(address: string): boolean {
    if (this.empty) return false;
    const plain = plainAddress(address);
    const version = isIP(plain);
    return version !== 0 && this.#list.check(plain, version === 4 ? "ipv4" : "ipv6");
  }

  #add(part: string): void {
    const [address = "", prefix, ...more] = part.split("/");
    const version = isIP(address);
    const bits = version === 4 ? 32 : 128;
    const length = prefix === undefined ? bits : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN;
    if (version === 0 || address.includes("%") || more.length > 0 || !(length <= bits))
      throw new Error(`expected networks such as 10.0.0.0/8 or fd00::/8, not ${JSON.stringify(part)}`);
    this.#list.addSubnet(address, length, version === 4 ? "ipv4" : "ipv6");
  }
}

/** Without a zone, and in IPv4's form where IPv6 only carries it. */
export function plainAddress(address: string): string {
  const plain = address.replace(/%.*$/, "");
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1] ?? plain;
}
