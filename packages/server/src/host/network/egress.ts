import { z } from "zod";
import { ALWAYS_CLOSED, matcher, NOT_PUBLIC, parseRange } from "./address-range.ts";

const cidr = z.string().refine((text) => parseRange(text) !== undefined, "an IPv4 range");
const port = z.int().min(1).max(65_535);
const pattern = z.string().regex(/^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$/);

const egressRule = z
  .strictObject({
    protocol: z.enum(["tcp", "udp", "icmp", "any"]),
    /** Pairs of first and last; none: every port. */
    ports: z.array(z.tuple([port, port]).readonly()).readonly(),
    cidrs: z.array(cidr).min(1).readonly(),
    /** Only addresses that one of these names has led to: `example.com`, `*.example.com` (any depth below it), `*`. */
    names: z.array(pattern).min(1).readonly().exactOptional(),
  })
  .readonly();
export type EgressRule = z.infer<typeof egressRule>;

const egressGrant = z
  .strictObject({
    /** Where there is a way to: ranges, and `public`, which is all that is neither private nor closed. */
    routes: z.array(z.union([z.literal("public"), cidr])).readonly(),
    rules: z.array(egressRule).readonly(),
  })
  .readonly();
export type EgressGrant = z.infer<typeof egressGrant>;

/**
 * What a guest reaches: of each grant what lies on its routes and is allowed by one of its rules; of several grants,
 * what any of them gives. Data: it is written down with the microvm, and later settings do not change it.
 */
export const egressPolicy = z.strictObject({ grants: z.array(egressGrant).readonly() }).readonly();
export type EgressPolicy = z.infer<typeof egressPolicy>;

/** What a microvm reaches that has no policy: public addresses. */
export const INTERNET: EgressGrant = {
  routes: ["public"],
  rules: [{ protocol: "any", ports: [], cidrs: ["0.0.0.0/0"] }],
};

/** How a guest's names are resolved. */
export type NameService =
  /** It reaches nothing, and so asks nobody. */
  | { readonly kind: "none" }
  /** By whom the host asks itself. */
  | { readonly kind: "direct" }
  /** By our forwarder: answers open addresses. `unlisted`: other names than those that open something resolve too. */
  | { readonly kind: "forwarder"; readonly unlisted: boolean; readonly allows: (name: string) => boolean };

/** Within a grant, a list of names is the list of all its rules; what any grant resolves is resolved. */
export function nameService({ grants }: EgressPolicy): NameService {
  const given = grants.filter(({ routes, rules }) => routes.length > 0 && rules.length > 0);
  if (given.length === 0) return { kind: "none" };
  const lists = given.map(({ rules }) => rules.flatMap(({ names = [] }) => names));
  if (lists.every((list) => list.length === 0)) return { kind: "direct" };
  const unlisted = lists.some((list) => list.length === 0);
  return { kind: "forwarder", unlisted, allows: nameMatcher(unlisted ? ["*"] : lists.flat()) };
}

/** @returns whether a name, in small letters and without a dot at its end, fits one of the patterns */
export function nameMatcher(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns);
  if (exact.has("*")) return () => true;
  const below = patterns.filter((each) => each.startsWith("*.")).map((each) => each.slice(1));
  return (name) => exact.has(name) || below.some((suffix) => name.endsWith(suffix) && name.length > suffix.length);
}

/** A set of the slot's rules that addresses are put into when a name has led to them. */
export interface NameSet {
  readonly name: string;
  readonly wants: (name: string) => boolean;
  /** Whether the address may be in it: the rule's ranges and the grant's routes, and nothing that is always closed. */
  readonly admits: (address: string) => boolean;
}

export const nameSetName = (grant: number, rule: number): string => `names_${grant}_${rule}`;

/** @param slots range of the slots: other guests */
export function nameSets({ grants }: EgressPolicy, slots: string): NameSet[] {
  const closed = matcher([...ALWAYS_CLOSED, slots]);
  const notPublic = matcher(NOT_PUBLIC);
  return grants.flatMap(({ routes, rules }, grant) => {
    const routed = matcher(routes.filter((route) => route !== "public"));
    const isPublic = routes.includes("public");
    return rules.flatMap(({ names, cidrs }, rule) => {
      if (!names) return [];
      const ranges = matcher(cidrs);
      const admits = (address: string): boolean =>
        ranges(address) && !closed(address) && (routed(address) || (isPublic && !notPublic(address)));
      return [{ name: nameSetName(grant, rule), wants: nameMatcher(names), admits }];
    });
  });
}
