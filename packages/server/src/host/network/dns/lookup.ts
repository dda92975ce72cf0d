import type { Answer } from "dns-packet";
import type { NameSet } from "../egress.ts";
import { normalized, type Query, type Rcode, type Reply, type UpstreamAnswer } from "./message.ts";

/** An answer that is good for longer is asked for again all the same: what it opens is not open for days. */
export const MAX_TTL_SECONDS = 3600;
const MAX_ALIASES = 16;
/** Questions that are asked for one: aliases whose addresses the server did not say along. */
const MAX_QUESTIONS = 8;
/** Of one name. */
const MAX_ADDRESSES = 64;

/** Of types that would tell of IPv6, which is closed: the guest is told that the name has none. */
const EMPTY_TYPES = new Set(["AAAA", "UNKNOWN_64", "UNKNOWN_65"]);
const PASSED_TYPES = new Set(["CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT", "CAA", "NAPTR"]);

/** An address that is to be in a set for as long as the guest may remember it. */
export interface Opening {
  readonly set: string;
  readonly address: string;
  readonly seconds: number;
}

export interface LookupRules {
  readonly allows: (name: string) => boolean;
  /** Addresses that names do not open may be open by themselves. */
  readonly unlisted: boolean;
  readonly sets: readonly NameSet[];
}

/** @throws Error when there is no answer to be had */
export type Ask = (name: string, type: string) => Promise<UpstreamAnswer>;

/** What a guest is answered, and what that opens for it: to be opened before it is answered. */
export async function lookUp(
  { name, type }: Query,
  { allows, unlisted, sets }: LookupRules,
  ask: Ask,
): Promise<{ readonly reply: Reply; readonly openings: readonly Opening[] }> {
  const refuse = (rcode: Rcode, explanation?: string) => ({
    reply: { rcode, answers: [], ...(explanation !== undefined && { explanation }) },
    openings: [],
  });
  if (!allows(name)) return refuse("REFUSED", "not among the names that this microvm may reach");
  if (EMPTY_TYPES.has(type)) return refuse("NOERROR");
  if (type !== "A") {
    if (!PASSED_TYPES.has(type)) return refuse("NOTIMP");
    const { rcode, answers, authorities } = await ask(name, type);
    const passed = (list: readonly Answer[]): Answer[] => list.filter((each) => PASSED_TYPES.has(each.type)).map(short);
    return {
      reply: { rcode: rcodeOf(rcode), answers: passed(answers), authorities: passed(authorities) },
      openings: [],
    };
  }
  const { rcode, aliases, addresses } = await addressesOf(name, ask);
  const wanting = sets.filter((set) => set.wants(name));
  const answers = addresses.filter(({ data }) => unlisted || wanting.some((set) => set.admits(data)));
  const openings = answers.flatMap(({ data: address, ttl }) =>
    wanting.filter((set) => set.admits(address)).map((set) => ({ set: set.name, address, seconds: ttl })),
  );
  return { reply: { rcode: rcodeOf(rcode), answers: [...aliases, ...answers] }, openings };
}

interface Address {
  readonly type: "A";
  readonly name: string;
  readonly ttl: number;
  readonly data: string;
}

/** Follows aliases, from one server's answer to its next if need be. */
async function addressesOf(
  name: string,
  ask: Ask,
): Promise<{ rcode: string; aliases: readonly Answer[]; addresses: readonly Address[] }> {
  const aliases: Answer[] = [];
  let at = name;
  for (let asked = 0; asked < MAX_QUESTIONS; asked++) {
    const { rcode, answers } = await ask(at, "A");
    const begun = at;
    for (let hop = 0; hop < MAX_ALIASES; hop++) {
      const alias = answers.find((each) => each.type === "CNAME" && normalized(each.name) === at);
      const target = alias?.type === "CNAME" ? normalized(alias.data) : undefined;
      if (!alias || target === undefined || aliases.length >= MAX_ALIASES) break;
      aliases.push(short(alias));
      at = target;
    }
    const addresses = answers
      .filter((each) => each.type === "A" && normalized(each.name) === at)
      .slice(0, MAX_ADDRESSES)
      .map((each) => short(each) as Address);
    if (addresses.length > 0 || at === begun || rcode !== "NOERROR") return { rcode, aliases, addresses };
  }
  throw new Error(`${name} leads from alias to alias`);
}

/** As long as it is remembered at most. */
function short(record: Answer): Answer {
  if (!("ttl" in record)) return record;
  return { ...record, ttl: Math.min(record.ttl ?? 0, MAX_TTL_SECONDS) } as Answer;
}

const rcodeOf = (rcode: string): Rcode =>
  rcode === "NOERROR" || rcode === "NXDOMAIN" || rcode === "REFUSED" ? rcode : "SERVFAIL";
