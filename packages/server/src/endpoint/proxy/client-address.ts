import { isIP } from "node:net";
import { type AddressList, plainAddress } from "../../lib/address-list.ts";
import { type HeaderLines, listOf, valuesOf } from "../header-lines.ts";

/** The proxies in front of us, and in which header they say for whom they speak. */
export interface Proxies {
  readonly trusted: AddressList;
  /** One only: a proxy sets the one it knows and passes the other on as a client has made it up. */
  readonly header: "x-forwarded-for" | "forwarded";
}

/**
 * Whose request it is: the nearest address, from ours backwards, that is none of the proxies'. Only what a proxy of ours
 * has added is believed, and that is what it says of its own neighbour.
 */
export function clientAddress(peer: string, lines: HeaderLines, { trusted, header }: Proxies): string {
  if (!trusted.has(peer)) return peer;
  let client = peer;
  const named = header === "forwarded" ? forwardedFor(lines) : listOf(lines, "x-forwarded-for");
  for (const text of named.reverse()) {
    const address = addressIn(text);
    if (address === undefined) return client; // `unknown`, a made-up name: its proxy is the nearest that we know
    client = address;
    if (!trusted.has(client)) return client;
  }
  return client;
}

/** The `for` of each element, empty where it has none. Source: RFC 7239 §4. */
function forwardedFor(lines: HeaderLines): string[] {
  return valuesOf(lines, "forwarded")
    .flatMap(elementsOf)
    .map((pairs) => {
      const node = pairs.map((pair) => /^\s*for=(.*?)\s*$/is.exec(pair)?.[1]).find((value) => value !== undefined);
      return (node ?? "").replace(/^"(.*)"$/s, "$1").replace(/\\(.)/gs, "$1");
    });
}

/** Elements are separated by commas, their pairs by semicolons; within quotes both are text. */
function elementsOf(value: string): string[][] {
  const elements: string[][] = [];
  let [pairs, pair, quoted, escaped]: [string[], string, boolean, boolean] = [[], "", false, false];
  for (const c of `${value},`) {
    const separates = !quoted && (c === "," || c === ";");
    if (!separates) pair += c;
    if (escaped) escaped = false;
    else if (quoted && c === "\\") escaped = true;
    else if (c === '"') quoted = !quoted;
    if (!separates) continue;
    pairs.push(pair);
    pair = "";
    if (c === ";") continue;
    elements.push(pairs);
    pairs = [];
  }
  // A quote without an end has swallowed the rest: that is nobody's address.
  return pair === "" && pairs.length === 0 ? elements : [...elements, [...pairs, pair]];
}

/** With or without a port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function addressIn(text: string): string | undefined {
  const bare = /^\[([^\]]+)\](:\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  return isIP(bare) === 0 || bare.includes("%") ? undefined : plainAddress(bare);
}
